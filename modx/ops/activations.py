"""The activations an expert can have: one row each, with what every implementation needs of it.

A row with a function alone runs in ``reference`` and ``eager``. The kernels refuse one without a word for it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Activation(NamedTuple):
    """An activation: its function, its derivative where it is written out, and the kernels' word for it."""

    function: Callable[[Tensor], Tensor]
    # (grad, z) -> grad * act'(z), written over grad: at these sizes a new tensor costs more than its arithmetic
    derivative_: Callable[[Tensor, Tensor], Tensor] | None = None
    kernel_word: str | None = None

    def backward_(self, grad: Tensor, z: Tensor) -> Tensor:
        """``grad * act'(z)``, written over ``grad``; autograd derives it where no derivative is written out."""
        if self.derivative_ is not None:
            return self.derivative_(grad, z)
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.function(z), z, grad)
        return grad.copy_(found)


_aten = torch.ops.aten

ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation(
        F.gelu,
        lambda grad, z: _aten.gelu_backward.grad_input(grad, z, grad_input=grad),
        "gelu",
    ),
    "gelu_tanh": Activation(
        partial(F.gelu, approximate="tanh"),
        lambda grad, z: _aten.gelu_backward.grad_input(grad, z, approximate="tanh", grad_input=grad),
        "gelu_tanh",
    ),
    "relu": Activation(
        F.relu,
        lambda grad, z: _aten.threshold_backward.grad_input(grad, z, 0, grad_input=grad),
        "relu",
    ),
    "silu": Activation(
        F.silu,
        lambda grad, z: _aten.silu_backward.grad_input(grad, z, grad_input=grad),
        "silu",
    ),
}
