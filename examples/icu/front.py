"""FrontEnd: what all networks see, each modality's hours and a summary of them as frames of one width."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icu.ranks import INTERVALS, place
from icu.stays import Stays
from icu.summary import Carried, carry_forward, summarize
from icu.variables import COLUMNS, HOURS, MODALITIES, SERIES, STATIC

WINDOW = 6  # hours per frame
WINDOWS = HOURS // WINDOW
SUMMARY = 4  # frames that summarize a modality
LENGTHS = {name: (WINDOWS if name in COLUMNS else 0) + SUMMARY for name in MODALITIES}
COUNT = 1  # where the count stands among the four numbers of a window
FADE = 12.0  # hours in which the freshness of a last value falls to 1 / e


class Description(NamedTuple):
    """What is measured of S stays, without a learned parameter.

    Attributes:
        windows: ``(S, 8, 37, 4)``: per window of hours and variable the mean of its values, how many there are, the
            last value so far, and how fresh that is.
        figures: ``(S, 37, 4)``, the mean, minimum, maximum and last rank of each variable.
        count: ``(S, 37)``, how often each was measured.
        static: ``(S, 5)``, NaN where unknown.
    """

    windows: Tensor
    figures: Tensor
    count: Tensor
    static: Tensor

    def take(self, rows: Tensor) -> "Description":
        """Return the description of some rows."""
        return Description(*(part[rows] for part in self))


def describe(ranks: Stays) -> Description:
    """Describe stays whose values are ranks, NaN where there are none."""
    parts = [_describe(*part) for part in zip(ranks.values.split(256), ranks.static.split(256), strict=True)]
    return Description(*(torch.cat(part) for part in zip(*parts, strict=True)))


class Frames(NamedTuple):
    """Frames ``(B, L_m, dim)`` and masks ``(B, L_m)`` per modality: its windows, then its summary."""

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]

    @property
    def present(self) -> dict[str, Tensor]:
        """Return ``(B,)`` per modality, True where it has a frame."""
        return {name: mask.any(1) for name, mask in self.masks.items()}


class FrontEnd(nn.Module):
    """Turn a description into frames. A window without a value of a modality is masked; one without any is absent.

    The frame of a window sees the four numbers of each variable there. The summary frames see, per variable, its mean,
    minimum, maximum, last value and count.

    Args:
        dim: Width of a frame.
        dropout: Share of the summarized variables, and of the summary frames' features, that are zeroed in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.windows = nn.ModuleDict({name: nn.Linear(4 * len(SERIES[name]), dim) for name in COLUMNS})
        widths = {name: len(SERIES[name]) * (4 * INTERVALS + 2) for name in COLUMNS}
        widths["static"] = len(STATIC) * (INTERVALS + 1)
        self.summary = nn.ModuleDict({name: nn.Linear(width, SUMMARY * dim) for name, width in widths.items()})
        self.dropout = nn.Dropout(dropout)

    def forward(self, described: Description) -> Frames:
        """Return the frames of all modalities."""
        variables, known = _encode_variables(described), ~described.static.isnan()
        static = torch.cat([place(described.static.nan_to_num(0)), known[..., None]], -1)
        inputs, masks = {"static": self._summarize("static", static)}, {"static": _summary_mask(known)}
        for name, columns in COLUMNS.items():
            windows = described.windows[:, :, columns]
            measured = (windows[..., COUNT] > 0).any(2)
            inputs[name] = torch.cat(
                [self.windows[name](windows.flatten(2)), self._summarize(name, variables[:, columns])], 1
            )
            masks[name] = torch.cat([measured, _summary_mask(measured)], 1)
        return Frames(inputs, masks)

    def _summarize(self, name: str, features: Tensor) -> Tensor:
        kept = self.dropout(features.new_ones(*features.shape[:2], 1))  # whole variables, as trees draw columns
        summary = F.gelu(self.summary[name]((features * kept).flatten(1)))
        return self.dropout(summary).unflatten(1, (SUMMARY, -1))


def _summary_mask(seen: Tensor) -> Tensor:
    """Return ``(B, SUMMARY)``: a summary is there if anything is."""
    return seen.any(1, keepdim=True).expand(-1, SUMMARY)


def _describe(values: Tensor, static: Tensor) -> Description:
    carried = carry_forward(values, WINDOW)
    *figures, count = summarize(values, carried)
    return Description(_describe_windows(values, carried), torch.stack(figures, -1), count, static)


def _describe_windows(values: Tensor, carried: Carried) -> Tensor:
    """Return mean, count, last value and freshness; values from -1 to 1."""
    count, total = (
        part.unflatten(1, (WINDOWS, WINDOW)).sum(2) for part in ((~values.isnan()).float(), values.nan_to_num(0))
    )
    mean = (2 * total - count) / count.clamp(min=1)
    last = (2 * carried.value - 1) * carried.known
    return torch.stack([mean, count / WINDOW, last, carried.known * torch.exp(-carried.age / FADE)], -1)


def _encode_variables(described: Description) -> Tensor:
    """Return ``(B, 37, F)``: the intervals of four figures, and the count on two scales."""
    scales = described.count / HOURS, described.count.log1p() / 4
    return torch.cat([place(described.figures).flatten(2), torch.stack(scales, -1)], -1)
