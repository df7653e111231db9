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


def carry_forward(values: Tensor) -> Carried:
    """Return what is known of each variable in each hour, from values ``(B, T, V)`` with NaN where there are none."""
    hours = torch.arange(values.shape[1])[:, None]
    latest = torch.where(values.isfinite(), hours, -1).cummax(1).values
    known = latest >= 0
    value = torch.where(known, values.gather(1, latest.clamp(min=0)), 0)
    return Carried(value, torch.where(known, hours - latest, 0).to(values.dtype), known)


def summarize(values: Tensor, carried: Carried) -> Summary:
    """Summarize each variable ``(B, V)``, from values ``(B, T, V)``, NaN where there are none, and what was carried."""
    seen = values.isfinite()
    count = seen.sum(1).to(values.dtype)
    there = count > 0
    mean = torch.where(seen, values, 0).sum(1) / count.clamp(min=1)
    minimum = torch.where(there, torch.where(seen, values, torch.inf).amin(1), 0)
    maximum = torch.where(there, torch.where(seen, values, -torch.inf).amax(1), 0)
    return Summary(mean, minimum, maximum, carried.value[:, -1], count)


def as_table(stays: Stays) -> np.ndarray:
    """Return one row per stay for scikit-learn: the summary and the static values, NaN where there are none."""
    summary = summarize(stays.values, carry_forward(stays.values))
    gone = summary.count == 0
    figures = [figure.masked_fill(gone, torch.nan) for figure in summary[:-1]]
    return torch.cat([*figures, summary.count, stays.static], 1).numpy()
