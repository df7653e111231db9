"""Register the kernels as PyTorch operators, which compilers can trace and autograd can differentiate once.

The last arguments of each operator are the fields of a ``Mixture``, in order.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..dispatch import fits_fused
from ..mixture import Mixture
from . import fused, wide
from .gradients import Needs
from .launch import Launch, align, aligned

_library = torch.library.Library("modx", "DEF")
_MIXTURE = (  # the fields of Mixture in the types of torch.library, which no annotation in Python tells apart
    "Tensor x, Tensor? router_weights, Tensor w1, Tensor b1, Tensor w2, Tensor b2, "
    "SymInt[] group_sizes, int num_private, int num_shared, str activation"
)
_library.define(
    f"expert_mixture(ScalarType dtype, bool exact, bool differentiable, bool least_memory, {_MIXTURE})"
    " -> (Tensor private, Tensor shared, Tensor preact)"
)
_library.define(
    "expert_mixture_backward(ScalarType dtype, bool exact, bool least_memory, bool[] needs, "
    f"Tensor d_private, Tensor d_shared, Tensor preact, {_MIXTURE}) -> Tensor[]"
)


def _run_forward(
    dtype: torch.dtype, exact: bool, differentiable: bool, least_memory: bool, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    mixture = Mixture(*arguments)
    launch = Launch.prepare(mixture, dtype, exact)
    with _on_device(mixture.x):
        if launch.fits_fused:
            private, shared = fused.forward(launch)
            preact = launch.mixture.x.new_empty(0)
        else:
            private, shared, preact = wide.forward(launch, differentiable and not least_memory, least_memory)
    shape = mixture.x.shape[0], mixture.w2.shape[2]
    return _crop(private, shape), _crop(shared, shape), preact


@contextmanager
def _on_device(tensor: Tensor) -> Iterator[None]:
    """Launch on the tensor's device, which may not be the current one, and without autocast, which would cast again."""
    with (
        torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext(),
        torch.autocast(tensor.device.type, enabled=False),
    ):
        yield


def _crop(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Remove the padding. A padded tensor is copied, because an operator must not return a view."""
    return tensor if tensor.shape == torch.Size(shape) else tensor[tuple(map(slice, shape))].contiguous()


def _fake_forward(
    dtype: torch.dtype, exact: bool, differentiable: bool, least_memory: bool, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    mixture = Mixture(*arguments)
    x, w1, w2 = mixture.x, mixture.w1, mixture.w2
    shape = x.shape[0], w2.shape[2]
    if fits_fused(mixture, dtype, exact):
        preact = x.new_empty(0, dtype=dtype)
    else:
        size = mixture.experts_per_token * aligned(w1.shape[1])
        preact = x.new_empty(x.shape[0] if differentiable and not least_memory else 0, size, dtype=dtype)
    return x.new_empty(shape, dtype=dtype), x.new_empty(shape, dtype=dtype), preact


def _run_backward(
    dtype: torch.dtype,
    exact: bool,
    least_memory: bool,
    needs: Sequence[bool],
    d_private: Tensor,
    d_shared: Tensor,
    preact: Tensor,
    *arguments: Any,
) -> list[Tensor]:
    mixture = Mixture(*arguments)
    launch = Launch.prepare(mixture, dtype, exact)
    d_private, d_shared = align(d_private, 1), align(d_shared, 1)
    with _on_device(mixture.x):
        if launch.fits_fused:
            gradients = fused.backward(launch, d_private, d_shared, Needs(*needs), least_memory)
        else:
            kept = preact if preact.shape[0] else None
            gradients = wide.backward(launch, kept, d_private, d_shared, Needs(*needs), least_memory)
    return [
        _cast_like(tensor, gradient) if need and tensor is not None else mixture.x.new_empty(0)
        for tensor, need, gradient in zip(mixture.tensors, needs, gradients.tensors, strict=True)
    ]


def _cast_like(tensor: Tensor, gradient: Tensor | None) -> Tensor:
    """Return a gradient in the shape and dtype of its tensor, or zeros if there were no tokens."""
    if gradient is None:
        return torch.zeros_like(tensor, memory_format=torch.contiguous_format)
    return _crop(gradient, tensor.shape).to(tensor.dtype)


def _fake_backward(
    dtype: torch.dtype,
    exact: bool,
    least_memory: bool,
    needs: Sequence[bool],
    d_private: Tensor,
    d_shared: Tensor,
    preact: Tensor,
    *arguments: Any,
) -> list[Tensor]:
    mixture = Mixture(*arguments)
    return [
        torch.empty_like(tensor, memory_format=torch.contiguous_format)
        if need and tensor is not None
        else mixture.x.new_empty(0)
        for tensor, need in zip(mixture.tensors, needs, strict=True)
    ]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.dtype, ctx.exact, _, ctx.least_memory, *arguments = inputs
    _, _, preact = output
    mixture = Mixture(*arguments)
    ctx.layout = mixture.layout
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(preact)
    ctx.save_for_backward(preact, *mixture.tensors)


def _differentiate(ctx: Any, d_private: Tensor | None, d_shared: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    preact, *tensors = ctx.saved_tensors
    mixture = Mixture(*tensors, *ctx.layout)
    d_private, d_shared = (
        mixture.x.new_zeros(mixture.x.shape[0], mixture.w2.shape[2], dtype=ctx.dtype) if gradient is None else gradient
        for gradient in (d_private, d_shared)
    )
    _, _, _, _, *asked = ctx.needs_input_grad
    needs: Any = Mixture(*asked)
    gradients = torch.ops.modx.expert_mixture_backward(
        ctx.dtype, ctx.exact, ctx.least_memory, list(needs.tensors), d_private, d_shared, preact, *mixture
    )
    found = (gradient if need else None for gradient, need in zip(gradients, needs.tensors, strict=True))
    options = layout = (None, None, None, None)
    return *options, *found, *layout


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise NotImplementedError(
        "expert_mixture has no second derivative with implementation='triton'; use implementation='eager' "
        "or 'reference' to differentiate gradients."
    )


for _name, _run, _fake, _backward, _setup in (
    ("expert_mixture", _run_forward, _fake_forward, _differentiate, _save),
    ("expert_mixture_backward", _run_backward, _fake_backward, _refuse, None),
):
    _library.impl(_name, _run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"modx::{_name}", _fake, lib=_library)
    torch.library.register_autograd(f"modx::{_name}", _backward, setup_context=_setup, lib=_library)
