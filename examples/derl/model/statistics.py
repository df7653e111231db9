"""std_mean: standard deviation and mean of features over all training frames."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

_CHUNK = 256  # samples in memory at a time


class Rows(Protocol):
    """A tensor ``(n, L, D)``, or a sequence of tensors ``(L, D)``."""

    def __getitem__(self, index: int) -> Tensor: ...


def std_mean(rows: Rows, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return standard deviation and mean of all frames, chunk by chunk (Chan, Golub and LeVeque, 1983).

    NaN is left out. A feature that was never observed has mean 0.
    """
    count, mean, squares = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for start in range(0, len(lengths), _CHUNK):
        part = torch.cat([rows[row][: lengths[row]] for row in range(len(lengths))[start : start + _CHUNK]]).double()
        own = (~part.isnan()).sum(0)
        own_mean = part.nansum(0) / own.clamp(min=1)
        total, shift = count + own, own_mean - mean
        divisor = total.clamp(min=1)
        squares = squares + (part - own_mean).square().nansum(0) + shift.square() * count * own / divisor
        mean, count = mean + shift * own / divisor, total
    return (squares / count.clamp(min=1)).sqrt(), mean
