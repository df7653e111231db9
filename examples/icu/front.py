"""FrontEnd: what all networks see, each modality's hours and a summary of them as frames of one width."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icu.ranks import INTERVALS, place
from icu.summary import Carried, Summary, carry_forward, summarize
from icu.variables import COLUMNS, HOURS, MODALITIES, STATIC

SUMMARY = 4  # frames that summarize a modality
LENGTHS = {name: (HOURS if name in COLUMNS else 0) + SUMMARY for name in MODALITIES}
FADE = 12.0  # hours in which the freshness of a last value falls to 1 / e


class Frames(NamedTuple):
    """Frames ``(B, L_m, dim)`` and masks ``(B, L_m)`` per modality: its hours, then its summary."""

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]

    @property
    def present(self) -> dict[str, Tensor]:
        """Return ``(B,)`` per modality, True where it has a frame."""
        return {name: mask.any(1) for name, mask in self.masks.items()}


class FrontEnd(nn.Module):
    """Turn ranks into frames. An hour without a value of a modality is masked; a modality without any is absent.

    An hour has four numbers per variable: its value, whether there is one, the last value so far and how fresh that is.
    The summary frames see, per variable, its mean, minimum, maximum, last value and count.

    Args:
        dim: Width of a frame.
        dropout: Share of the summary's numbers, and of summary frames' features, that are zeroed in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.hours = nn.ModuleDict({name: nn.Linear(4 * len(columns), dim) for name, columns in COLUMNS.items()})
        widths = {name: len(columns) * (4 * INTERVALS + 2) for name, columns in COLUMNS.items()}
        widths["static"] = len(STATIC) * (INTERVALS + 1)
        self.summary = nn.ModuleDict({name: nn.Linear(width, SUMMARY * dim) for name, width in widths.items()})
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, static: Tensor) -> Frames:
        """Return frames of ranks ``(B, 48, 37)`` and static ones ``(B, 5)``, NaN where there are none."""
        seen, known = values.isfinite(), static.isfinite()
        carried = carry_forward(values)
        hours, variables = _describe_hours(values, seen, carried), _describe_variables(summarize(values, carried))
        placed = torch.cat([place(torch.where(known, static, 0)), known[..., None]], -1)
        inputs, masks = {"static": self._summarize("static", placed)}, {"static": _summary_mask(known)}
        for name, columns in COLUMNS.items():
            hour = self.hours[name](hours[:, :, columns].flatten(2))
            inputs[name] = torch.cat([hour, self._summarize(name, variables[:, columns])], 1)
            measured = seen[..., columns].any(2)
            masks[name] = torch.cat([measured, _summary_mask(measured)], 1)
        return Frames(inputs, masks)

    def _summarize(self, name: str, features: Tensor) -> Tensor:
        summary = F.gelu(self.summary[name](self.dropout(features.flatten(1))))
        return self.dropout(summary).unflatten(1, (SUMMARY, -1))


def _summary_mask(seen: Tensor) -> Tensor:
    """Return ``(B, SUMMARY)``: a summary is there if anything is."""
    return seen.any(1, keepdim=True).expand(-1, SUMMARY)


def _describe_hours(values: Tensor, seen: Tensor, last: Carried) -> Tensor:
    """Return ``(B, 48, 37, 4)``: value, whether there is one, last value, freshness."""
    fresh = last.known * torch.exp(-last.age / FADE)
    centered = torch.where(seen, 2 * values - 1, 0), torch.where(last.known, 2 * last.value - 1, 0)
    return torch.stack([centered[0], seen.to(values.dtype), centered[1], fresh], -1)


def _describe_variables(summary: Summary) -> Tensor:
    """Return ``(B, 37, F)``: the intervals of four figures, and the count on two scales."""
    count = torch.stack([summary.count / HOURS, summary.count.log1p() / 4], -1)
    return torch.cat([*(place(figure) for figure in summary[:-1]), count], -1)
