"""FrontEnd: what all networks see, each modality's hours and variables as frames of one width."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from icu.ranks import INTERVALS, place
from icu.summary import Carried, Summary, carry_forward, summarize
from icu.variables import COLUMNS, HOURS, STATIC, VARIABLES

LENGTHS = {name: HOURS + len(columns) for name, columns in COLUMNS.items()} | {"static": len(STATIC)}
FADE = 12.0  # hours in which the freshness of a last value falls to 1 / e


class Frames(NamedTuple):
    """Frames ``(B, L_m, dim)`` and masks ``(B, L_m)`` per modality: 48 hours, then one frame per variable."""

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]

    @property
    def present(self) -> dict[str, Tensor]:
        """Return ``(B,)`` per modality, True where it has a frame."""
        return {name: mask.any(1) for name, mask in self.masks.items()}


class FrontEnd(nn.Module):
    """Turn ranks into frames. An hour without values and a variable that was never measured are masked.

    An hour has four numbers per variable: its value, whether there is one, the last value so far and how fresh that is.
    The frame of a variable encodes its mean, minimum, maximum, last value and count.

    Args:
        dim: Width of a frame.
        dropout: Share of a variable's numbers that are zeroed in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.hours = nn.ModuleDict({name: nn.Linear(4 * len(columns), dim) for name, columns in COLUMNS.items()})
        self.variables = _PerVariable(len(VARIABLES), 4 * INTERVALS + 2, dim)
        self.static = _PerVariable(len(STATIC), INTERVALS, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, static: Tensor) -> Frames:
        """Return frames of ranks ``(B, 48, 37)`` and static ones ``(B, 5)``, NaN where there are none."""
        seen, known = values.isfinite(), static.isfinite()
        measured = seen.any(1)
        carried = carry_forward(values)
        hours = _describe_hours(values, seen, carried)
        variables = self.variables(self.dropout(_describe_variables(summarize(values, carried))))
        placed = place(torch.where(known, static, 0))
        inputs, masks = {"static": self.static(self.dropout(placed))}, {"static": known}
        for name, columns in COLUMNS.items():
            hour = self.hours[name](hours[:, :, columns].flatten(2))
            inputs[name] = torch.cat([hour, variables[:, columns]], 1)
            masks[name] = torch.cat([seen[..., columns].any(2), measured[:, columns]], 1)
        return Frames(inputs, masks)


class _PerVariable(nn.Module):
    """A linear layer of its own for each variable: ``(B, V, F)`` to ``(B, V, dim)``."""

    def __init__(self, variables: int, features: int, dim: int) -> None:
        super().__init__()
        bound = features**-0.5
        self.weight = nn.Parameter(torch.empty(variables, features, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(variables, dim).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        return torch.einsum("bvf,vfd->bvd", features, self.weight) + self.bias


def _describe_hours(values: Tensor, seen: Tensor, last: Carried) -> Tensor:
    """Return ``(B, 48, 37, 4)``: value, whether there is one, last value, freshness."""
    fresh = last.known * torch.exp(-last.age / FADE)
    centered = torch.where(seen, 2 * values - 1, 0), torch.where(last.known, 2 * last.value - 1, 0)
    return torch.stack([centered[0], seen.to(values.dtype), centered[1], fresh], -1)


def _describe_variables(summary: Summary) -> Tensor:
    """Return ``(B, 37, F)``: the intervals of four figures, and the count on two scales."""
    count = torch.stack([summary.count / HOURS, summary.count.log1p() / 4], -1)
    return torch.cat([*(place(figure) for figure in summary[:-1]), count], -1)
