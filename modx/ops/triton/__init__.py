"""The expert mixture as fused kernels, for GPUs that Triton compiles for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..chip import exact_float32
from . import register  # noqa: F401 - which makes the operators known

__all__ = ["expert_mixture"]


def expert_mixture(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str,
    dtype: torch.dtype,
    least_memory: bool,
) -> tuple[Tensor, Tensor]:
    """Compute in ``dtype``; every gradient comes in the dtype of what it is the gradient of."""
    inputs = (x, router_weights, w1, b1, w2, b2)
    differentiable = torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in inputs)
    exact = dtype == torch.float32 and exact_float32()
    private, shared, _ = torch.ops.modx.expert_mixture(
        *inputs, group_sizes, num_private, num_shared, activation, dtype, exact, differentiable, least_memory
    )
    return private, shared
