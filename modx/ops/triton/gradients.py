"""Accumulate the six gradients; those of the weights are summed over spans in float32."""

from typing import NamedTuple

import torch
from torch import Tensor

from .launch import Launch
from .spans import Span


class Needs(NamedTuple):
    """Which gradients are wanted."""

    x: bool
    router_weights: bool
    w1: bool
    b1: bool
    w2: bool
    b2: bool

    @property
    def hidden(self) -> bool:
        """Whether a gradient that depends on the hidden layer is wanted."""
        return self.w1 or self.b1 or self.w2


class Gradients:
    """One gradient per tensor, in its shape; None where it is not wanted."""

    def __init__(self, launch: Launch, needs: Needs) -> None:
        x, router_weights = launch.mixture.x, launch.mixture.router_weights
        self.launch = launch
        self.needs = needs
        self.x = torch.empty_like(x) if needs.x else None
        self.router_weights: Tensor | None = None
        if needs.router_weights and router_weights is not None:
            self.router_weights = torch.empty_like(router_weights)
        self.w1: Tensor | None = None
        self.b1: Tensor | None = None
        self.w2: Tensor | None = None
        self.b2: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.x, self.router_weights, self.w1, self.b1, self.w2, self.b2

    def new_hidden(self, span: Span) -> tuple[Tensor | None, Tensor | None]:
        """Allocate buffers for a span's dL/dz and weighted activations."""
        x, shape = self.launch.mixture.x, (span.stop - span.start, self.launch.hidden_size)
        return (
            x.new_empty(shape) if self.needs.w1 or self.needs.b1 else None,
            x.new_empty(shape) if self.needs.w2 else None,
        )

    def add_hidden(
        self, span: Span, hidden_grad: Tensor | None, hidden: Tensor | None, d_private: Tensor, d_shared: Tensor
    ) -> None:
        """Add a span's share of the gradients of w1, b1 and w2."""
        mixture = self.launch.mixture
        x = span.of(mixture.x)
        for bank in self.launch.banks(span, d_private, d_shared):
            if hidden_grad is not None:
                self.w1, self.b1 = _start(self.w1, mixture.w1), _start(self.b1, mixture.b1)
                part = hidden_grad[bank.rows, bank.hidden]
                self.w1[bank.experts].flatten(0, 1).add_(matmul(part.T, x[bank.rows]))
                self.b1[bank.experts].view(-1).add_(part.sum(0, dtype=torch.float32))
            if hidden is not None:
                self.w2 = _start(self.w2, mixture.w2)
                part = hidden[bank.rows, bank.hidden]
                self.w2[bank.experts].flatten(0, 1).add_(matmul(part.T, bank.output))

    def add_output_bias(self, span: Span, d_private: Tensor, d_shared: Tensor) -> None:
        """Add a span's share of the gradient of b2."""
        router_weights = span.of(self.launch.mixture.router_weights)
        self.b2 = _start(self.b2, self.launch.mixture.b2)
        for bank in self.launch.banks(span, d_private, d_shared):
            if router_weights is None:
                self.b2[bank.experts] += bank.output.sum(0, dtype=torch.float32)
            else:
                weights = router_weights[bank.rows, bank.columns].to(bank.output.dtype)
                self.b2[bank.experts] += matmul(weights.T, bank.output)


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """Multiply with cuBLAS and return the float32 accumulators, without rounding to half precision."""
    if left.dtype == torch.float32:
        return left @ right
    if left.is_cuda and not torch.version.hip:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def _start(total: Tensor | None, like: Tensor) -> Tensor:
    if total is not None:
        return total
    return torch.zeros_like(like, dtype=torch.float32, memory_format=torch.contiguous_format)
