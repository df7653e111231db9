"""ViewsModel: late fusion, and modx's blocks on the same tokens. Copy this file and late.py, and change the names."""

import torch
from torch import Tensor, nn

from digits.late import BLOCK, LateFusion
from digits.views import NUM_CLASSES, SHAPES, Views
from modx import (
    Disentangled,
    HybridExpertDisentangler,
    ModalityRouter,
    MultiLevelReconstructor,
    TransformerEncoder,
)
from modx.losses import orthogonality_loss, reconstruction_loss

WEIGHT = 0.1  # of each of the two losses


class ViewsModel(LateFusion):
    """Add the answer of the blocks to that of late fusion; their gradients do not reach the encoder.

    The blocks are called one by one because dropped frames are masked out here; ``MissingModalityFusion`` erases them,
    as the paper does.
    """

    def __init__(self, dim: int = 48, num_tokens: int = 4, dropout: float = 0.0) -> None:
        super().__init__(dim, num_tokens)
        names = tuple(SHAPES)
        self.disentangle = HybridExpertDisentangler(names, dim, hidden_dim=dim)
        self.rebuild = MultiLevelReconstructor(names, dim, hidden_dim=dim)
        self.fuse = ModalityRouter(names, dim, hidden_dim=dim)
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens, dim))
        self.mix = TransformerEncoder(dim, depth=1, dropout=dropout, **BLOCK)
        self.head = nn.Linear(dim, NUM_CLASSES)

    def fused(self, tokens: Views, present: dict[str, Tensor]) -> tuple[Tensor, Tensor | float]:
        """Return the blocks' logits, and in training the orthogonality and reconstruction losses."""
        tokens = {name: part.detach() for name, part in tokens.items()}
        split = self.disentangle(tokens, present)
        features = self.fuse(split.private, split.shared, present=present).features
        logits = self.head(self.mix(features + self.positions).mean(1))
        return logits, self._losses(tokens, split, present) if self.training else 0.0

    def _losses(self, tokens: Views, split: Disentangled, present: dict[str, Tensor]) -> Tensor:
        half = len(next(iter(present.values()))) // 2
        complete, seen = (_take(tokens, split, rows) for rows in (slice(half), slice(half, None)))
        there = {name: part[half:] for name, part in present.items()}
        rebuilt = reconstruction_loss(self.rebuild(*seen, there), *complete, present=there)
        return WEIGHT * (orthogonality_loss(seen[1], penalty="square", present=there) + rebuilt.total)


def _take(tokens: Views, split: Disentangled, rows: slice) -> tuple[Views, Disentangled]:
    def take(parts: Views) -> Views:
        return {name: part[rows] for name, part in parts.items()}

    return take(tokens), Disentangled(*(take(part) for part in split))
