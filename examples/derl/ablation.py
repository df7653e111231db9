"""What stands in for a block of DERL where the paper's ablations take it out (Tables 3 and 4)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from modx import Disentangled, Experts
from modx.fusion import Fused
from modx.ops import expert_mixture


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

    def __init__(self, modalities: Sequence[str], dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.mlps = Experts(len(self.modalities) + 1, dim, hidden_dim)

    def forward(self, features: Mapping[str, Tensor]) -> Disentangled:
        """Return private and shared views of ``(B, N_m, D)`` features."""
        tokens = [features[name].flatten(0, 1) for name in self.modalities]
        sizes = [part.shape[0] for part in tokens]
        views = expert_mixture(
            torch.cat(tokens),
            None,
            self.mlps.w1,
            self.mlps.b1,
            self.mlps.w2,
            self.mlps.b2,
            group_sizes=sizes,
            num_private=1,
            num_shared=1,
            activation=self.mlps.activation,
        )
        private, shared = (
            {
                name: part.unflatten(0, features[name].shape[:2])
                for name, part in zip(self.modalities, view.split(sizes), strict=True)
            }
            for view in views
        )
        return Disentangled(private, shared, {})


class MeanFusion(nn.Module):
    """DERL without MRF: every view weighs the same, for every token of every sample.

    Example:
        >>> MeanFusion()([torch.zeros(1, 1, 2), torch.ones(1, 1, 2)])
        Fused(features=tensor([[[0.5000, 0.5000]]]), router_weights=tensor([[[0.5000, 0.5000]]]))
    """

    def forward(self, features: Sequence[Tensor]) -> Fused:
        """Average ``(B, N, D)`` views."""
        stacked = torch.stack(list(features), dim=2)
        weights = stacked.new_full(stacked.shape[:3], 1 / len(features))
        return Fused(stacked.mean(2), weights)
