"""Up to a width of 256: the hidden layer stays on the chip; for the weights' gradients it is in memory span by span."""

from typing import Any

import torch
import triton
from torch import Tensor

from .call import Call
from .gradients import Gradients, Needs
from .kernels.backward import backward_kernel
from .kernels.forward import forward_kernel
from .kernels.groups import MAX_GROUPS
from .kernels.weights import weights_kernel
from .partial import Parts
from .schedule import floor_power_of_2, schedule
from .spans import Span
from .tiles import fused_tiles

MAX_SPLITS = 8
FEW_TOKENS = 4096  # up to here making the hidden layer twice costs less than the launches it saves (modelled)


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """Both outputs of eq. 4."""
    private, shared = call.new_outputs()
    for span in call.cut():
        plan = schedule("forward", call, span)
        wanted = [span.of(private)] * bool(call.num_private) + [span.of(shared)] * bool(call.num_shared)
        parts = Parts(wanted, plan.splits)
        forward_kernel[plan.grid](
            span.of(call.x),
            span.of(call.gates),
            call.w1,
            call.b1,
            call.w2,
            call.b2,
            parts.targets[0] if call.num_private else None,
            parts.targets[-1] if call.num_shared else None,
            stride_split=parts.stride,
            BANKS=plan.banks,
            SPLITS=plan.splits,
            **plan.tile.options(),
            **_arguments(call, span),
        )
        parts.sum()
    return private, shared


def backward(call: Call, d_private: Tensor, d_shared: Tensor, needs: Needs, least_memory: bool) -> Gradients:
    """The gradients that somebody needs."""
    gradients = Gradients(call, needs)
    twice = (least_memory or call.x.shape[0] <= FEW_TOKENS) and len(call.group_sizes) <= MAX_GROUPS
    stored = needs.hidden and not twice
    for span in call.cut_hidden(2, least_memory) if stored else call.cut():
        hidden_grad, hidden = gradients.new_hidden(span) if stored else (None, None)
        if needs.x or needs.gates or stored:
            _backward_span(call, span, d_private, d_shared, gradients, hidden_grad, hidden)
        if stored:
            gradients.add_hidden(span, hidden_grad, hidden, d_private, d_shared)
        if needs.b2 and (stored or not needs.hidden):
            gradients.add_output_bias(span, d_private, d_shared)
        if needs.hidden and twice:
            _weights(call, span, d_private, d_shared, gradients)
    return gradients


def _backward_span(
    call: Call,
    span: Span,
    d_private: Tensor,
    d_shared: Tensor,
    gradients: Gradients,
    hidden_grad: Tensor | None,
    hidden: Tensor | None,
) -> None:
    plan = schedule("backward", call, span, divisible=hidden_grad is None and hidden is None)
    d_x, d_gates = span.of(gradients.x), span.of(gradients.gates)
    parts = Parts([wanted for wanted in (d_x, d_gates) if wanted is not None], plan.splits)
    backward_kernel[plan.grid](
        span.of(d_private),
        span.of(d_shared),
        span.of(call.x),
        span.of(call.gates),
        call.w1,
        call.b1,
        call.w2,
        call.b2,
        None if d_x is None else parts.targets[0],
        None if d_gates is None else parts.targets[-1],
        hidden_grad,
        hidden,
        stride_split=parts.stride,
        SPLITS=plan.splits,
        **plan.tile.options(),
        **_arguments(call, span),
    )
    parts.sum()


def _weights(call: Call, span: Span, d_private: Tensor, d_shared: Tensor, gradients: Gradients) -> None:
    """Every weight's gradient from tokens alone; one launch, and one more to sum the splits."""
    needs = gradients.needs
    wanted = {"w1": needs.w1 or needs.b1, "b1": needs.w1 or needs.b1, "w2": needs.w2, "b2": needs.b2}
    like: dict[str, Tensor] = {name: getattr(call, name) for name, needed in wanted.items() if needed}
    (tile,) = fused_tiles("weights", call.x.element_size(), call.width, call.chip.family)
    programs = call.w1.shape[0] * triton.cdiv(call.hidden_dim, tile.block_h)
    shares = min(2 * call.chip.processors // programs, call.x.shape[0] // (4 * tile.block_t), MAX_SPLITS)
    results = [torch.empty_like(part, dtype=call.weight_dtype) for part in like.values()]
    parts = Parts(results, floor_power_of_2(shares))
    targets = dict(zip(like, parts.targets, strict=True))
    weights_kernel[programs, parts.splits](
        d_private,
        d_shared,
        call.x,
        call.gates,
        call.w1,
        call.b1,
        call.w2,
        targets.get("w1"),
        targets.get("b1"),
        targets.get("w2"),
        targets.get("b2"),
        num_tokens=call.x.shape[0],
        stride_split=parts.stride,
        SPLITS=parts.splits,
        **tile.options(),
        **_arguments(call, span),
    )
    parts.sum()
    for name, result in zip(like, results, strict=True):
        setattr(gradients, name, result)


def _arguments(call: Call, span: Span) -> dict[str, Any]:
    return call.numbers(span) | call.constants | call.blocks | {"D_OUT": call.out_dim}
