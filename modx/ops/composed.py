"""The expert mixture in differentiable PyTorch operations: two wide matmuls per bank."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .activations import ACTIVATIONS
from .mixture import Mixture


def expert_mixture(mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Concatenate the experts' hidden layers, scaled by router weights, so that one matmul sums over the experts."""
    x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation = mixture

    def mix(tokens: Tensor, weights: Tensor | None, experts: slice) -> Tensor:
        bank1, bank2 = w1[experts], w2[experts]
        hidden = ACTIVATIONS[activation].function(F.linear(tokens, bank1.flatten(0, 1), b1[experts].flatten()))
        if weights is None:
            return hidden @ bank2.flatten(0, 1) + b2[experts].sum(0)
        weights = weights.to(hidden.dtype)
        scaled: Tensor = hidden.unflatten(1, bank1.shape[:2]) * weights[:, :, None]
        return scaled.flatten(1) @ bank2.flatten(0, 1) + weights @ b2[experts]

    private = shared = None
    if num_private and group_sizes:
        parts = []
        for tokens, experts in mixture.groups():
            weights = None if router_weights is None else router_weights[tokens, :num_private]
            parts.append(mix(x[tokens], weights, experts))
        private = torch.cat(parts)
    if num_shared:
        weights = None if router_weights is None else router_weights[:, num_private:]
        shared = mix(x, weights, slice(mixture.first_shared, None))
    if private is None:  # under autocast, an empty sum needs the dtype of the other sum
        private = x.new_zeros(x.shape[0], w2.shape[2]) if shared is None else torch.zeros_like(shared)
    return private, torch.zeros_like(private) if shared is None else shared


def differentiable_gradients(
    mixture: Mixture, needs: tuple[bool, ...], grads: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Compute differentiable gradients of the mixture's tensors; ``needs`` says which of them are wanted."""
    outputs = expert_mixture(mixture)
    # a sum over no experts requires no gradient
    pairs = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if output.requires_grad]
    wanted = [part for part, need in zip(mixture.tensors, needs, strict=True) if need and part is not None]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs], wanted, [grad for _, grad in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if need else None for need in needs]
