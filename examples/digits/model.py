"""ViewsModel: modx's blocks around a classifier. Copy this file and change the names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digits.missing import everything
from digits.views import NUM_CLASSES, SHAPES, Views
from modx import (
    BottleneckEncoder,
    Disentangled,
    HybridExpertDisentangler,
    ModalityRouter,
    MultiLevelReconstructor,
    TransformerEncoder,
)
from modx.losses import orthogonality_loss, reconstruction_loss


class ViewsModel(nn.Module):
    """Classify from views with missing frames or missing views."""

    def __init__(self, dim: int = 48, num_tokens: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        names = tuple(SHAPES)
        block = {"num_heads": 8, "head_dim": 16}
        self.encode = BottleneckEncoder(
            {name: features for name, (_, features) in SHAPES.items()},
            dim,
            num_tokens=num_tokens,
            depth=2,
            max_lengths={name: frames for name, (frames, _) in SHAPES.items()},
            **block,
        )
        for positions in self.encode.positions.values():
            nn.init.normal_(positions, std=0.3)  # large: a row's position is as informative as its content
        self.disentangle = HybridExpertDisentangler(names, dim, hidden_dim=dim)
        self.rebuild = MultiLevelReconstructor(names, dim, hidden_dim=dim)
        self.fuse = ModalityRouter(names, dim, hidden_dim=dim)
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens, dim))
        self.mix = TransformerEncoder(dim, depth=1, dropout=dropout, **block)
        self.head = nn.Linear(dim, NUM_CLASSES)

    def forward(self, views: Views, keep: dict[str, Tensor]) -> Tensor:
        """Return logits ``(B, classes)``; frames where ``keep`` ``(B, frames)`` is False are never read."""
        return self._classify(self.disentangle(self.encode(views, keep)), keep)

    def loss(self, views: Views, keep: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the cross-entropy given what was kept, plus the orthogonality and reconstruction losses."""
        batch_size = len(labels)
        both = {name: torch.cat([mask, keep[name]]) for name, mask in everything(views).items()}
        tokens = self.encode({name: torch.cat([view, view]) for name, view in views.items()}, both)
        split = self.disentangle(tokens)
        complete, seen = (_take(tokens, split, rows) for rows in (slice(batch_size), slice(batch_size, None)))
        return (
            F.cross_entropy(self._classify(seen[1], keep), labels)
            + 0.1 * orthogonality_loss(seen[1], penalty="square")
            + 0.1 * reconstruction_loss(self.rebuild(*seen), *complete).total
        )

    def _classify(self, split: Disentangled, keep: dict[str, Tensor]) -> Tensor:
        present = {name: mask.any(1) for name, mask in keep.items()}
        fused = self.fuse(split.private, split.shared, present=present).features
        return self.head(self.mix(fused + self.positions).mean(1))


def _take(tokens: Views, split: Disentangled, rows: slice) -> tuple[Views, Disentangled]:
    def take(parts: Views) -> Views:
        return {name: part[rows] for name, part in parts.items()}

    return take(tokens), Disentangled(*(take(part) for part in split))
