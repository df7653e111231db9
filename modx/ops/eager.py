"""The expert mixture in PyTorch's own operations, by the composition that suits the device."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._checks import autocasts
from . import wide
from .chunked import ExpertMixture, Plan


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
    least_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    """Block by block on a CPU, where wide temporaries fall out of the cache, or to save memory; else wide."""
    inputs = (x, router_weights, w1, b1, w2, b2)
    autocast = autocasts(x.device.type)
    by_blocks = least_memory or (x.device.type == "cpu" and not autocast)
    if not by_blocks or not _can_be_a_function(inputs):
        return wide.expert_mixture(
            *inputs, group_sizes=group_sizes, num_private=num_private, num_shared=num_shared, activation=activation
        )
    if autocast:  # which does not reach into a function
        dtype = torch.get_autocast_dtype(x.device.type)
        x, w1, b1, w2, b2 = (part.to(dtype) for part in (x, w1, b1, w2, b2))
    plan = Plan(group_sizes, num_private, num_shared, activation, least_memory)
    run: Callable[..., tuple[Tensor, Tensor]] = ExpertMixture.apply
    return run(plan, x, router_weights, w1, b1, w2, b2)


def _can_be_a_function(inputs: tuple[Tensor | None, ...]) -> bool:
    """Whether nothing looks inside: a compiler plans memory itself, and transforms need derivatives of every step."""
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or any(part is not None and type(part) not in (Tensor, torch.nn.Parameter) for part in inputs)
        or any(part is not None and part.is_meta for part in inputs)
    )
