"""Features of measurements: what was last known in each hour, and what can be said of each variable as a whole."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icu.stays import Stays


class Carried(NamedTuple):
    """Per hour: the last value so far, how many hours old it is, and whether there is one. Zeros if there is none."""

    value: Tensor
    age: Tensor
    known: Tensor


class Summary(NamedTuple):
    """Per variable, over all hours. Zeros if it was never measured."""

    mean: Tensor
    minimum: Tensor
    maximum: Tensor
    last: Tensor
    count: Tensor


def carry_forward(values: Tensor, window: int = 1) -> Carried:
    """Return what is known of each variable ``(B, T / window, V)`` at the end of each window of hours.

    Args:
        values: ``(B, T, V)``, NaN where there are none.
        window: Hours per window.
    """
    hours = torch.arange(1, values.shape[1] + 1)
    measured = ~values.isnan() * hours[:, None].to(values.dtype)
    latest = measured.unflatten(1, (-1, window)).amax(2).cummax(1).values  # 0: none yet
    known = latest > 0
    value = values.nan_to_num(0).gather(1, (latest.long() - 1).clamp(min=0)) * known
    return Carried(value, (hours[window - 1 :: window, None] - latest) * known, known)


def summarize(values: Tensor, carried: Carried) -> Summary:
    """Summarize each variable ``(B, V)``, from values ``(B, T, V)``, NaN where there are none, and what was carried."""
    count = (~values.isnan()).sum(1).to(values.dtype)
    mean = values.nan_to_num(0).sum(1) / count.clamp(min=1)
    extremes = values.nan_to_num(torch.inf).amin(1), values.nan_to_num(-torch.inf).amax(1)
    minimum, maximum = (torch.where(count > 0, extreme, 0) for extreme in extremes)
    return Summary(mean, minimum, maximum, carried.value[:, -1], count)


def as_table(stays: Stays) -> np.ndarray:
    """Return one row per stay for scikit-learn: the summary and the static values, NaN where there are none."""
    summary = summarize(stays.values, carry_forward(stays.values))
    gone = summary.count == 0
    figures = [figure.masked_fill(gone, torch.nan) for figure in summary[:-1]]
    return torch.cat([*figures, summary.count, stays.static], 1).numpy()
