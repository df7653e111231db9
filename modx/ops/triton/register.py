"""The kernels as operators that PyTorch knows: compilers trace them by shape, autograd differentiates them once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..forms import fits_fused
from . import fused, wide
from .call import Call, align, aligned
from .gradients import Needs

_library = torch.library.Library("modx", "DEF")
_SIZES = "SymInt[] group_sizes, int num_private, int num_shared, str activation, ScalarType dtype, bool exact"
_INPUTS = f"Tensor x, Tensor? router_weights, Tensor w1, Tensor b1, Tensor w2, Tensor b2, {_SIZES}"
_library.define(f"expert_mixture({_INPUTS}, bool differentiable, bool least_memory) -> (Tensor, Tensor, Tensor)")
_library.define(
    f"expert_mixture_backward(Tensor d_private, Tensor d_shared, Tensor before, {_INPUTS}, bool least_memory, "
    "bool[] needed) -> Tensor[]"
)


def _run_forward(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *arguments: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    *sizes, differentiable, least_memory = arguments
    call = Call.prepare(x, router_weights, w1, b1, w2, b2, *sizes)
    with _alone(x):
        if call.fits_fused:
            private, shared = fused.forward(call)
            before = call.x.new_empty(0)
        else:
            private, shared, before = wide.forward(call, differentiable and not least_memory, least_memory)
    shape = x.shape[0], w2.shape[2]
    return _trim(private, shape), _trim(shared, shape), before


@contextmanager
def _alone(tensor: Tensor) -> Iterator[None]:
    """Launch on the tensors' device, which need not be the current one, and cast nothing behind the kernels' back."""
    with (
        torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext(),
        torch.autocast(tensor.device.type, enabled=False),
    ):
        yield


def _trim(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Without what the kernels' sizes were filled up with; a view of nothing else, as an operator's results must be."""
    return tensor if tensor.shape == torch.Size(shape) else tensor[tuple(map(slice, shape))].contiguous()


def _fake_forward(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str,
    dtype: torch.dtype,
    exact: bool,
    differentiable: bool,
    least_memory: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[0], w2.shape[2]
    if fits_fused(w1.shape[2], w2.shape[2], num_private, num_shared, dtype.itemsize, exact):
        before = x.new_empty(0, dtype=dtype)
    else:
        size = (num_private + num_shared) * aligned(w1.shape[1])
        before = x.new_empty(x.shape[0] if differentiable and not least_memory else 0, size, dtype=dtype)
    return x.new_empty(shape, dtype=dtype), x.new_empty(shape, dtype=dtype), before


def _run_backward(
    d_private: Tensor,
    d_shared: Tensor,
    before: Tensor,
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *arguments: Any,
) -> list[Tensor]:
    *sizes, least_memory, needed = arguments
    call = Call.prepare(x, router_weights, w1, b1, w2, b2, *sizes)
    d_private, d_shared = align(d_private, 1), align(d_shared, 1)
    with _alone(x):
        if call.fits_fused:
            gradients = fused.backward(call, d_private, d_shared, Needs(*needed), least_memory)
        else:
            kept = before if before.shape[0] else None
            gradients = wide.backward(call, kept, d_private, d_shared, Needs(*needed), least_memory)
    found = (gradients.x, gradients.gates, gradients.w1, gradients.b1, gradients.w2, gradients.b2)
    return [
        _like(like, got) if need and like is not None else x.new_empty(0)
        for like, need, got in zip((x, router_weights, w1, b1, w2, b2), needed, found, strict=True)
    ]


def _like(tensor: Tensor, gradient: Tensor | None) -> Tensor:
    """A gradient in the shape and dtype of what it is the gradient of; zeros where no token reached it."""
    if gradient is None:
        return torch.zeros_like(tensor, memory_format=torch.contiguous_format)
    return _trim(gradient, tensor.shape).to(tensor.dtype)


def _fake_backward(
    d_private: Tensor,
    d_shared: Tensor,
    before: Tensor,
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *arguments: Any,
) -> list[Tensor]:
    return [
        x.new_empty(0) if not need or like is None else torch.empty_like(like, memory_format=torch.contiguous_format)
        for like, need in zip((x, router_weights, w1, b1, w2, b2), arguments[-1], strict=True)
    ]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs[:6], output[2])
    *ctx.sizes, _, ctx.least_memory = inputs[6:]


def _differentiate(ctx: Any, d_private: Tensor | None, d_shared: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    *inputs, before = ctx.saved_tensors
    x, w2, dtype = inputs[0], inputs[4], ctx.sizes[-2]
    d_private, d_shared = (
        x.new_zeros(x.shape[0], w2.shape[2], dtype=dtype) if gradient is None else gradient
        for gradient in (d_private, d_shared)
    )
    needed = list(ctx.needs_input_grad[:6])
    gradients = torch.ops.modx.expert_mixture_backward(
        d_private, d_shared, before, *inputs, *ctx.sizes, ctx.least_memory, needed
    )
    found = (gradient if need else None for gradient, need in zip(gradients, needed, strict=True))
    return *found, *[None] * 8


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError(
        "expert_mixture has no second derivative with implementation='triton'; use implementation='reference' "
        "(or 'eager') where a gradient is differentiated again."
    )


for _name, _run, _fake, _backward, _setup in (
    ("expert_mixture", _run_forward, _fake_forward, _differentiate, _save),
    ("expert_mixture_backward", _run_backward, _fake_backward, _refuse, None),
):
    _library.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"modx::{_name}", _fake, lib=_library)
    torch.library.register_autograd(f"modx::{_name}", _backward, setup_context=_setup, lib=_library)
