"""Launch the fused kernels, for widths up to 256.

The forward pass keeps the hidden layer on the chip. Gradients of the weights need it in memory, one span at a time.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from .gradients import Gradients, Needs
from .kernels.backward import backward_kernel
from .kernels.forward import forward_kernel
from .kernels.groups import MAX_GROUPS
from .kernels.weights import weights_kernel
from .launch import Launch
from .schedule import floor_power_of_2, schedule
from .spans import Span
from .splits import SplitBuffers
from .tiles import fused_tiles

MAX_SPLITS = 8
FEW_TOKENS = 4096  # up to here, recomputing the hidden layer twice costs less than extra launches (modeled)


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """Compute both outputs of eq. 4."""
    mixture = launch.mixture
    private, shared = launch.new_outputs()
    for span in launch.spans():
        plan = schedule("forward", launch, span)
        buffers = SplitBuffers(
            {
                "private": span.of(private) if mixture.num_private else None,
                "shared": span.of(shared) if mixture.num_shared else None,
            },
            plan.splits,
        )
        forward_kernel[plan.grid](
            span.of(mixture.x),
            span.of(mixture.router_weights),
            mixture.w1,
            mixture.b1,
            mixture.w2,
            mixture.b2,
            buffers["private"],
            buffers["shared"],
            stride_split=buffers.stride,
            BANKS=plan.banks,
            SPLITS=plan.splits,
            **plan.tile.options(),
            **_arguments(launch, span),
        )
        buffers.sum()
    return private, shared


def backward(launch: Launch, d_private: Tensor, d_shared: Tensor, needs: Needs, least_memory: bool) -> Gradients:
    """Compute the gradients in ``needs``."""
    gradients = Gradients(launch, needs)
    few = launch.num_tokens <= FEW_TOKENS
    twice = (least_memory or few) and len(launch.mixture.group_sizes) <= MAX_GROUPS
    stored = needs.hidden and not twice
    for span in launch.hidden_spans(2, least_memory) if stored else launch.spans():
        hidden_grad, hidden = gradients.new_hidden(span) if stored else (None, None)
        if needs.x or needs.router_weights or stored:
            _backward_span(launch, span, d_private, d_shared, gradients, hidden_grad, hidden)
        if stored:
            gradients.add_hidden(span, hidden_grad, hidden, d_private, d_shared)
        if needs.b2 and (stored or not needs.hidden):
            gradients.add_output_bias(span, d_private, d_shared)
        if needs.hidden and twice:
            _backward_weights(launch, span, d_private, d_shared, gradients)
    return gradients


def _backward_span(
    launch: Launch,
    span: Span,
    d_private: Tensor,
    d_shared: Tensor,
    gradients: Gradients,
    hidden_grad: Tensor | None,
    hidden: Tensor | None,
) -> None:
    mixture = launch.mixture
    plan = schedule("backward", launch, span, divisible=hidden_grad is None and hidden is None)
    results = {"x": span.of(gradients.x), "router_weights": span.of(gradients.router_weights)}
    buffers = SplitBuffers(results, plan.splits)
    backward_kernel[plan.grid](
        span.of(d_private),
        span.of(d_shared),
        span.of(mixture.x),
        span.of(mixture.router_weights),
        mixture.w1,
        mixture.b1,
        mixture.w2,
        mixture.b2,
        buffers["x"],
        buffers["router_weights"],
        hidden_grad,
        hidden,
        stride_split=buffers.stride,
        SPLITS=plan.splits,
        **plan.tile.options(),
        **_arguments(launch, span),
    )
    buffers.sum()


def _backward_weights(launch: Launch, span: Span, d_private: Tensor, d_shared: Tensor, gradients: Gradients) -> None:
    """Compute all gradients of the weights without a stored hidden layer, in one launch plus one to sum the splits."""
    mixture, needs = launch.mixture, gradients.needs
    wanted = {"w1": needs.w1 or needs.b1, "b1": needs.w1 or needs.b1, "w2": needs.w2, "b2": needs.b2}
    results = {
        name: torch.empty_like(getattr(mixture, name), dtype=launch.weight_dtype)
        for name, needed in wanted.items()
        if needed
    }
    (tile,) = fused_tiles("weights", launch.element_size, launch.width, launch.arch.family)
    programs = launch.num_experts * triton.cdiv(launch.hidden_dim, tile.block_h)
    shares = min(2 * launch.arch.num_sms // programs, launch.num_tokens // (4 * tile.block_t), MAX_SPLITS)
    buffers = SplitBuffers(results, floor_power_of_2(shares))
    weights_kernel[programs, buffers.splits](
        d_private,
        d_shared,
        mixture.x,
        mixture.router_weights,
        mixture.w1,
        mixture.b1,
        mixture.w2,
        buffers["w1"],
        buffers["b1"],
        buffers["w2"],
        buffers["b2"],
        num_tokens=launch.num_tokens,
        stride_split=buffers.stride,
        SPLITS=buffers.splits,
        **tile.options(),
        **_arguments(launch, span),
    )
    buffers.sum()
    for name, result in results.items():
        setattr(gradients, name, result)


def _arguments(launch: Launch, span: Span) -> dict[str, Any]:
    return launch.arguments(span) | launch.blocks | {"D_OUT": launch.out_dim}
