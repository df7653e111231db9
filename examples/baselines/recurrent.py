"""Recurrent layers that skip masked frames."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from baselines.masked import hide, last


class FinalState(nn.Module):
    """Sum up a sequence by the final state of an LSTM and a linear layer, ``(B, dim)``."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_dim, dim, batch_first=True)
        self.leave = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Read the unmasked frames of ``(B, T, D)``; zeros where there are none."""
        x, shown = unmasked_first(x, mask)
        return torch.where(mask.any(1)[:, None], self.leave(last(self.lstm(x)[0], shown)), 0)


def unmasked_first(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put the unmasked rows of ``(B, T, D)`` first, in their order, and return the mask of the result."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return take(x, order), torch.arange(mask.shape[1], device=mask.device) < mask.sum(1, keepdim=True)


def both_ways(x: Tensor, mask: Tensor, forth: nn.RNNBase, back: nn.RNNBase) -> Tensor:
    """Return the states ``(B, T, 2 H)`` of two recurrent layers, of which the second reads from the last row.

    Args:
        x: ``(B, T, D)``, unmasked rows first, as :func:`unmasked_first` returns it.
        mask: bool ``(B, T)``. States of masked rows are zeros.
        forth, back: layers with ``batch_first``.
    """
    lengths = mask.sum(1, keepdim=True)
    steps = torch.arange(mask.shape[1], device=mask.device)
    backwards = torch.where(mask, lengths - 1 - steps, steps)  # its own inverse
    reverse = take(back(take(x, backwards))[0], backwards)
    return hide(torch.cat([forth(x)[0], reverse], dim=-1), mask)


def stacked(kind: Callable[..., nn.RNNBase], width: int, hidden: int, depth: int) -> nn.ModuleList:
    """Return ``depth`` pairs of recurrent layers, each of which reads the states of both layers before it."""
    widths = [width] + [2 * hidden] * (depth - 1)
    return nn.ModuleList(nn.ModuleList(kind(width, hidden, batch_first=True) for _ in range(2)) for width in widths)


def read_both_ways(x: Tensor, mask: Tensor, layers: nn.ModuleList) -> Tensor:
    """Return the states ``(B, T, 2 H)`` of :func:`stacked` layers, which skip masked frames, in the frames' places."""
    places = (~mask).long().argsort(dim=1, stable=True).argsort(dim=1)
    states, real = unmasked_first(x, mask)
    for pair in layers:
        assert isinstance(pair, nn.ModuleList)
        states = both_ways(states, real, *pair)
    return take(states, places)


def take(x: Tensor, order: Tensor) -> Tensor:
    """Return the rows of ``(B, T, D)`` in the order ``(B, T)``."""
    return x.gather(1, order[..., None].expand_as(x))
