"""The specification of the expert mixture, short enough to compare with its formula by eye."""

import torch
from einops import einsum
from torch import Tensor

from .activations import ACTIVATIONS
from .mixture import Mixture


def expert_mixture(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Run every expert separately and return the weighted sums (eq. 4)."""
    x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation = mixture
    if router_weights is None:
        router_weights = x.new_ones(x.shape[0], num_private + num_shared)

    def mix(x: Tensor, weights: Tensor, experts: slice) -> Tensor:
        hidden = ACTIVATIONS[activation].function(einsum(x, w1[experts], "t i, k h i -> t k h") + b1[experts])
        output = einsum(hidden, w2[experts], "t k h, k h o -> t k o") + b2[experts]
        return einsum(weights.to(output.dtype), output, "t k, t k o -> t o")

    private = [
        mix(tokens, weights[:, :num_private], slice(group * num_private, (group + 1) * num_private))
        for group, (tokens, weights) in enumerate(
            zip(x.split(group_sizes), router_weights.split(group_sizes), strict=True)
        )
    ]
    shared = mix(x, router_weights[:, num_private:], slice(len(group_sizes) * num_private, None))
    return torch.cat(private) if private else torch.zeros_like(shared), shared
