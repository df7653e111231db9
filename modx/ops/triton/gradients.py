"""The six gradients while they are made; the weights' are sums over spans, in float32."""

from typing import NamedTuple

import torch
from torch import Tensor

from .call import Call
from .products import product
from .spans import Span


class Needs(NamedTuple):
    """Which gradients somebody asked for."""

    x: bool
    gates: bool
    w1: bool
    b1: bool
    w2: bool
    b2: bool

    @property
    def hidden(self) -> bool:
        """Whether the weights of the hidden layer are among them."""
        return self.w1 or self.b1 or self.w2


class Gradients:
    """Each as large as what it is the gradient of; None where nobody asked."""

    def __init__(self, call: Call, needs: Needs) -> None:
        self.call = call
        self.needs = needs
        self.x = torch.empty_like(call.x) if needs.x else None
        self.gates = torch.empty_like(call.gates) if needs.gates and call.gates is not None else None
        self.w1: Tensor | None = None
        self.b1: Tensor | None = None
        self.w2: Tensor | None = None
        self.b2: Tensor | None = None

    def new_hidden(self, span: Span) -> tuple[Tensor | None, Tensor | None]:
        """Room for dL/dz and for the gated activations of a span."""
        shape = span.stop - span.start, self.call.experts_per_token * self.call.hidden_dim
        return (
            self.call.x.new_empty(shape) if self.needs.w1 or self.needs.b1 else None,
            self.call.x.new_empty(shape) if self.needs.w2 else None,
        )

    def add_hidden(
        self, span: Span, hidden_grad: Tensor | None, hidden: Tensor | None, d_private: Tensor, d_shared: Tensor
    ) -> None:
        """Add a span's part of the gradients of w1, b1 and w2."""
        x = span.of(self.call.x)
        for bank in self.call.banks(span, d_private, d_shared):
            if hidden_grad is not None:
                self.w1, self.b1 = _start(self.w1, self.call.w1), _start(self.b1, self.call.b1)
                part = hidden_grad[bank.rows, bank.hidden]
                self.w1[bank.experts].flatten(0, 1).add_(product(part.T, x[bank.rows]))
                self.b1[bank.experts].view(-1).add_(part.sum(0, dtype=torch.float32))
            if hidden is not None:
                self.w2 = _start(self.w2, self.call.w2)
                part = hidden[bank.rows, bank.hidden]
                self.w2[bank.experts].flatten(0, 1).add_(product(part.T, bank.output))

    def add_output_bias(self, span: Span, d_private: Tensor, d_shared: Tensor) -> None:
        """Add a span's part of the gradient of b2."""
        gates = span.of(self.call.gates)
        self.b2 = _start(self.b2, self.call.b2)
        for bank in self.call.banks(span, d_private, d_shared):
            if gates is None:
                self.b2[bank.experts] += bank.output.sum(0, dtype=torch.float32)
            else:
                self.b2[bank.experts] += product(gates[bank.rows, bank.gates].to(bank.output.dtype).T, bank.output)


def _start(total: Tensor | None, like: Tensor) -> Tensor:
    return (
        torch.zeros_like(like, dtype=torch.float32, memory_format=torch.contiguous_format) if total is None else total
    )
