"""The expert mixture as fused kernels, for GPUs that Triton supports."""

import torch
from torch import Tensor

from ..dispatch import exact_float32
from ..mixture import Mixture
from . import register  # noqa: F401 - registers the operators

__all__ = ["expert_mixture"]


def expert_mixture(mixture: Mixture, dtype: torch.dtype, least_memory: bool) -> tuple[Tensor, Tensor]:
    """Compute both outputs in ``dtype``. Each gradient has the dtype of its tensor."""
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in mixture.tensors)
    exact = dtype == torch.float32 and exact_float32()
    private, shared, _ = torch.ops.modx.expert_mixture(dtype, exact, differentiable, least_memory, *mixture)
    return private, shared
