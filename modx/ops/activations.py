"""The table of activations, with everything that the implementations need.

An activation with only a function runs in ``reference`` and ``eager``. The kernels refuse one without a kernel word.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Activation(NamedTuple):
    """An activation: its function, an optional derivative, and its name in the kernels."""

    function: Callable[[Tensor], Tensor]
    # (grad, z) -> grad * act'(z), in place: at these sizes, allocating a new tensor costs more than the arithmetic
    derivative_: Callable[[Tensor, Tensor], Tensor] | None = None
    kernel_word: str | None = None

    def backward_(self, grad: Tensor, z: Tensor) -> Tensor:
        """Multiply ``grad`` by act'(z) in place; without a derivative in the table, autograd computes it."""
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
