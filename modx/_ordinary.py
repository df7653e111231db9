"""why_unusual: whether code may look at the values of tensors, or differentiate by a function of its own."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def why_unusual(*tensors: Tensor | None) -> str | None:
    """Return why operations on these tensors must stay plain and whole, or None if they run as they are written.

    A graph cannot hold a decision that depends on values, transforms need derivatives of every operation, and a
    subclass of ``Tensor`` may give operations another meaning.
    """
    # comes first: a compiler cannot trace the questions after it
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return "a compiled, exported or traced graph"
    if transformed():
        return "torch.func and forward mode need derivatives of every operation"
    for tensor in tensors:
        if tensor is not None and (type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta):
            return "meta tensors or subclasses of Tensor"
    return None


def transformed() -> bool:
    """Whether ``torch.func`` or forward-mode differentiation is active. Both need derivatives of every operation."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
