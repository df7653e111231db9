"""The activations an expert can have, by name, and their derivatives for those who write the backward pass out."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}

_aten = torch.ops.aten

# (grad, z) -> grad * act'(z), written over grad: at these sizes a fresh tensor costs more than its arithmetic
BACKWARD_: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gelu": lambda grad, z: _aten.gelu_backward.grad_input(grad, z, grad_input=grad),
    "gelu_tanh": lambda grad, z: _aten.gelu_backward.grad_input(grad, z, approximate="tanh", grad_input=grad),
    "relu": lambda grad, z: _aten.threshold_backward.grad_input(grad, z, 0, grad_input=grad),
    "silu": lambda grad, z: _aten.silu_backward.grad_input(grad, z, grad_input=grad),
}
