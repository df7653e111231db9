"""The expert mixture in plain PyTorch operations, composed to suit the device."""

from functools import partial

import torch
from torch import Tensor

from .._checks import autocasts
from .._ordinary import why_unusual
from . import composed
from .batched import BatchedMixture
from .chunked import ChunkedMixture
from .mixture import Mixture

# Up to this many hidden elements per expert, over all tokens, the experts of a bank run as one matmul. This saves
# launch overhead, which dominates small matmuls. Larger hidden layers exceed the caches, so one expert at a time is
# faster.
FEW_ELEMENTS = 2**18


def expert_mixture(mixture: Mixture, dtype: torch.dtype, least_memory: bool) -> tuple[Tensor, Tensor]:
    """Run custom backward passes on a CPU or to save memory, and differentiable matmuls otherwise."""
    x, router_weights, w1, b1, w2, b2 = mixture.tensors
    keep = torch.is_grad_enabled() and not least_memory
    # whether an autograd function may be used; comes first, since reading a size would specialize a graph
    free = why_unusual(*mixture.tensors) is None
    few = free and 0 < x.shape[0] * w1.shape[1] <= FEW_ELEMENTS and min(mixture.group_sizes, default=0) > 0
    # few tokens without gradients gain nothing: there is no backward pass and little memory to save
    by_hand = least_memory or (x.device.type == "cpu" and not autocasts("cpu") and (keep or not few))
    if not by_hand or not free:
        return composed.expert_mixture(mixture)
    # autocast does not apply inside an autograd function
    x, w1, b1, w2, b2 = (part.to(dtype).contiguous() for part in (x, w1, b1, w2, b2))
    cast = Mixture(x, router_weights, w1, b1, w2, b2, *mixture.layout)
    if few and not least_memory:
        run = partial(BatchedMixture.apply, *cast)
    else:
        run = partial(ChunkedMixture.apply, keep, least_memory, *cast)
    outputs: tuple[Tensor, Tensor] = run()
    return outputs
