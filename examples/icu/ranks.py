"""Values as ranks among the training stays, from 0 to 1, so that neither skew nor a slip of the pen matters.

Ranks are linear between quantiles. ``place`` spreads a rank over its intervals: the piecewise linear encoding of
Gorishniy et al., "On Embeddings for Numerical Features in Tabular Deep Learning", 2022.
"""

import numpy as np
import torch
from torch import Tensor

from icu.stays import Stays

QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
INTERVALS = len(QUANTILES) - 1


class Ranks:
    """Ranks by the quantiles of some stays, those for training."""

    def __init__(self, train: Stays) -> None:
        self.values = [_knots(column) for column in train.values.flatten(0, 1).unbind(1)]
        self.static = [_knots(column) for column in train.static.unbind(1)]

    def __call__(self, stays: Stays) -> Stays:
        """Return stays with a rank in place of every value, NaN where there is none."""
        values = [_rank(column, *knots) for column, knots in zip(stays.values.unbind(-1), self.values, strict=True)]
        static = [_rank(column, *knots) for column, knots in zip(stays.static.unbind(-1), self.static, strict=True)]
        return stays._replace(values=torch.stack(values, -1), static=torch.stack(static, -1))


def place(ranks: Tensor) -> Tensor:
    """Return ``(..., 14)``: how much of each interval lies below a rank."""
    return (ranks[..., None] * INTERVALS - torch.arange(INTERVALS)).clamp(0, 1)


def _knots(column: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct quantiles of a column and their ranks; equal quantiles share their mean rank."""
    values = column[column.isfinite()].numpy()
    if not len(values):
        return np.zeros(1), np.zeros(1)
    edges, group, counts = np.unique(np.quantile(values, QUANTILES), return_inverse=True, return_counts=True)
    return edges, np.bincount(group, np.linspace(0, 1, len(QUANTILES))) / counts


def _rank(column: Tensor, edges: np.ndarray, ranks: np.ndarray) -> Tensor:
    seen = column.isfinite()
    placed = torch.full_like(column, torch.nan)
    placed[seen] = torch.from_numpy(np.interp(column[seen].numpy(), edges, ranks)).to(column.dtype)
    return placed
