"""The expert mixture in PyTorch's own operations, by the composition that suits the device."""

from functools import partial

import torch
from torch import Tensor

from .._checks import autocasts
from . import composed
from .batched import BatchedMixture
from .chunked import ChunkedMixture
from .dispatch import transformed
from .mixture import Mixture

# Hidden elements per expert, over all tokens, up to which the experts of a bank run as one matmul: that saves launch
# overhead, which is most of the time of small matmuls. Beyond the caches it is slower than one expert after the other.
FEW_ELEMENTS = 2**18


def expert_mixture(mixture: Mixture, dtype: torch.dtype, least_memory: bool) -> tuple[Tensor, Tensor]:
    """With its own backward pass on a CPU or to save memory; otherwise composed of differentiable matmuls."""
    x, router_weights, w1, b1, w2, b2 = mixture.tensors
    keep = torch.is_grad_enabled() and not least_memory
    free = _can_be_a_function(mixture)  # asked before any size, which would bind a compiled or exported graph
    few = free and 0 < x.shape[0] * w1.shape[1] <= FEW_ELEMENTS and min(mixture.group_sizes, default=0) > 0
    # few tokens without gradients have nothing to save: no backward pass, no memory
    by_hand = least_memory or (x.device.type == "cpu" and not autocasts("cpu") and (keep or not few))
    if not by_hand or not free:
        return composed.expert_mixture(mixture)
    # autocast does not reach into a function
    x, w1, b1, w2, b2 = (part.to(dtype).contiguous() for part in (x, w1, b1, w2, b2))
    cast = Mixture(x, router_weights, w1, b1, w2, b2, *mixture.layout)
    if few and not least_memory:
        run = partial(BatchedMixture.apply, *cast)
    else:
        run = partial(ChunkedMixture.apply, keep, least_memory, *cast)
    outputs: tuple[Tensor, Tensor] = run()
    return outputs


def _can_be_a_function(mixture: Mixture) -> bool:
    """Whether nothing looks inside: a compiler plans memory itself, and transforms need derivatives of every step."""
    tensors = [tensor for tensor in mixture.tensors if tensor is not None]
    return not (
        torch.compiler.is_compiling()
        or transformed()
        or any(type(tensor) not in (Tensor, torch.nn.Parameter) for tensor in tensors)
        or any(tensor.is_meta for tensor in tensors)
    )
