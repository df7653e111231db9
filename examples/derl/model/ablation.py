"""Replacements for blocks that the paper's ablations remove (Tables 3 and 4)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from modx import Disentangled, Experts, Fused
from modx.experts import by_group


class MlpDisentangler(nn.Module):
    """Replace HED: one MLP per modality for private views, one MLP for all shared views, and no router.

    Args:
        modalities: names of the modalities.
        dim: D, width of a token.
        hidden_dim: hidden units of each MLP.

    Example:
        >>> views = MlpDisentangler(("text", "audio"), 8, 16)(
        ...     {"text": torch.randn(2, 4, 8), "audio": torch.randn(2, 4, 8)}
        ... )
        >>> views.private["text"].shape, views.router_weights
        (torch.Size([2, 4, 8]), {})
    """

    def __init__(self, modalities: Iterable[str], dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.modalities = tuple(sorted(modalities))
        self.mlps = Experts(len(self.modalities) + 1, dim, hidden_dim)

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Disentangled:
        """Return private and shared views of ``(B, N_m, D)`` features; zeros where ``present`` ``(B,)`` is False."""
        private, shared = by_group(self.mlps, _hide(features, present), None, self.modalities, num_private=1)
        return Disentangled(_hide(private, present), _hide(shared, present), {})


class MeanFusion(nn.Module):
    """Replace MRF: every view has equal weight, for every token of every sample.

    Example:
        >>> MeanFusion()({"text": torch.zeros(1, 1, 2)}, {"text": torch.ones(1, 1, 2)}).features
        tensor([[[0.5000, 0.5000]]])
    """

    def forward(self, *views: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Fused:
        """Average ``(B, N, D)`` views over the modalities present; ``present=None`` means all are."""
        every = {name: part.new_ones(part.shape[:2]) for name, part in sorted(views[0].items())}
        there = _hide(every, present)
        weight = 1 / (len(views) * torch.stack(list(there.values())).sum(0)).clamp(min=1)
        weights = {name: part * weight for name, part in there.items()}
        fused = sum(weights[name][..., None] * part for view in views for name, part in _hide(view, present).items())
        return Fused(fused, (weights,) * len(views))


def _hide(parts: Mapping[str, Tensor], present: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Set a modality's features to zero in samples that lack it, so that not even NaN in them is read."""
    if present is None:
        return dict(parts)
    return {
        name: torch.where(present[name].reshape(-1, *[1] * (part.ndim - 1)), part, 0) for name, part in parts.items()
    }
