"""Blocks: HED, MLCR, MRF and a transformer over the encoder's tokens."""

import torch
from torch import Tensor, nn

from actions.encode import Encoded, Settings
from modx import (
    Disentangled,
    HybridExpertDisentangler,
    ModalityRouter,
    MultiLevelReconstructor,
    TransformerEncoder,
)
from modx.losses import orthogonality_loss, reconstruction_loss

WEIGHT = 0.1  # of each of the two losses


class Blocks(nn.Module):
    """Fuse the tokens of all modalities into one vector per clip.

    Args:
        modalities: Names.
        settings: Sizes.
    """

    def __init__(self, modalities: tuple[str, ...], settings: Settings) -> None:
        super().__init__()
        dim = settings.dim
        self.disentangle = HybridExpertDisentangler(modalities, dim, hidden_dim=2 * dim)
        self.rebuild = MultiLevelReconstructor(modalities, dim, hidden_dim=dim)
        self.fuse = ModalityRouter(modalities, dim, hidden_dim=dim)
        self.positions = nn.Parameter(0.02 * torch.randn(settings.num_tokens, dim))
        self.mix = TransformerEncoder(dim, depth=1, **settings.block)

    def forward(self, encoded: Encoded) -> tuple[Tensor, Disentangled]:
        """Return fused features ``(B, D)`` and the views."""
        views = self.disentangle(encoded.tokens, encoded.present)
        fused = self.fuse(views.private, views.shared, present=encoded.present).features
        return self.mix(fused + self.positions).mean(1), views

    def loss(self, encoded: Encoded, views: Disentangled) -> Tensor:
        """Return the orthogonality and the reconstruction loss; rows are the incomplete input, then the complete."""
        half = len(next(iter(encoded.present.values()))) // 2
        seen, whole = (
            (_rows(encoded.tokens, rows), Disentangled(*(_rows(view, rows) for view in views)))
            for rows in (slice(half), slice(half, None))
        )
        present = _rows(encoded.present, slice(half))
        rebuilt = self.rebuild(*seen, present)
        return WEIGHT * (
            orthogonality_loss(seen[1], penalty="square", present=present)
            + reconstruction_loss(rebuilt, *whole, detach_target=True, present=present).total
        )


def _rows(parts: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: part[rows] for name, part in parts.items()}
