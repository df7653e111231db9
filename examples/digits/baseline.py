"""ConcatBaseline: an MLP on everything at once."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digits.views import NUM_CLASSES, SHAPES, Views
from modx.missing import erase


class ConcatBaseline(nn.Module):
    """An MLP on all features, concatenated, with zeros for missing ones, and a flag per frame."""

    def __init__(self, hidden_dim: int = 248, dropout: float = 0.0) -> None:
        super().__init__()
        width = sum(frames * (features + 1) for frames, features in SHAPES.values())
        self.network = nn.Sequential(
            nn.Linear(width, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, NUM_CLASSES),
        )

    def forward(self, views: Views, keep: dict[str, Tensor]) -> Tensor:
        """Return logits; arguments as for ``ViewsModel.forward``."""
        features = [erase(views[name], keep[name]).flatten(1) for name in SHAPES]
        return self.network(torch.cat([*features, *(keep[name].float() for name in SHAPES)], dim=1))

    def loss(self, views: Views, keep: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the cross-entropy given what was kept."""
        return F.cross_entropy(self(views, keep), labels)
