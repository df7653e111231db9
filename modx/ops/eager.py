"""The expert mixture in PyTorch's own operations, by the composition that suits the device."""

from functools import partial

import torch
from torch import Tensor

from .._checks import autocasts
from . import batched, chunked, wide
from .choice import transformed

# Hidden elements of an expert over all tokens up to which the experts of a bank run as one product: it saves calls,
# which is most of the time of small products, but beyond the caches it is slower than one expert after the other.
FEW_ELEMENTS = 2**18


def expert_mixture(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    group_sizes: list[int],
    num_private: int,
    num_shared: int,
    activation: str,
    dtype: torch.dtype,
    least_memory: bool,
) -> tuple[Tensor, Tensor]:
    """With a backward pass of its own on a CPU or to save memory; else composed of differentiable products."""
    inputs = (x, router_weights, w1, b1, w2, b2)
    autocast = autocasts(x.device.type)
    keep = torch.is_grad_enabled() and not least_memory
    free = _can_be_a_function(inputs)  # asked before any size, which would bind a compiled or exported graph
    few = free and 0 < x.shape[0] * w1.shape[1] <= FEW_ELEMENTS and min(group_sizes, default=0) > 0
    # for few tokens without gradients there is nothing to save: no backward pass, no memory
    by_hand = least_memory or (x.device.type == "cpu" and not autocast and (keep or not few))
    if not by_hand or not free:
        return wide.expert_mixture(
            *inputs, group_sizes=group_sizes, num_private=num_private, num_shared=num_shared, activation=activation
        )
    # autocast does not reach into a function
    x, w1, b1, w2, b2 = (part.to(dtype).contiguous() for part in (x, w1, b1, w2, b2))
    sizes = group_sizes, num_private, num_shared, activation
    if few and not least_memory:
        run = partial(batched.ExpertMixture.apply, batched.Plan(*sizes))
    else:
        run = partial(chunked.ExpertMixture.apply, chunked.Plan(*sizes, keep, least_memory))
    outputs: tuple[Tensor, Tensor] = run(x, router_weights, w1, b1, w2, b2)
    return outputs


def _can_be_a_function(inputs: tuple[Tensor | None, ...]) -> bool:
    """Whether nothing looks inside: a compiler plans memory itself, and transforms need derivatives of every step."""
    return not (
        torch.compiler.is_compiling()
        or transformed()
        or any(part is not None and type(part) not in (Tensor, torch.nn.Parameter) for part in inputs)
        or any(part is not None and part.is_meta for part in inputs)
    )
