"""What stands in for a block of DERL where the paper's ablations take it out (Tables 3 and 4)."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from modx import Disentangled, Experts, Fused
from modx.experts import by_group


class MlpDisentangler(nn.Module):
    """DERL without HED: one MLP a modality for its private view, one MLP of all for the shared view, no router.

    Args:
        modalities: names.
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

    def forward(self, features: Mapping[str, Tensor]) -> Disentangled:
        """Return private and shared views of ``(B, N_m, D)`` features."""
        return Disentangled(*by_group(self.mlps, features, None, self.modalities, num_private=1), {})


class MeanFusion(nn.Module):
    """DERL without MRF: every view weighs the same, for every token of every sample.

    Example:
        >>> MeanFusion()({"text": torch.zeros(1, 1, 2)}, {"text": torch.ones(1, 1, 2)}).features
        tensor([[[0.5000, 0.5000]]])
    """

    def forward(self, *views: Mapping[str, Tensor]) -> Fused:
        """Average ``(B, N, D)`` views."""
        stacked = torch.stack([view[name] for view in views for name in sorted(view)])
        weight = 1 / len(stacked)
        weights = tuple({name: part.new_full(part.shape[:2], weight) for name, part in view.items()} for view in views)
        return Fused(stacked.mean(0), weights)
