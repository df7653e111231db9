"""Matmuls: record the matmuls of a computation, and run them alone: the time that no rewriting around them can save."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.bmm}  # by operator: its first two operands are multiplied
SUMS = {aten.addmm, aten.baddbmm, aten.addmm_, aten.baddbmm_}  # the first operand is added to the product


class Matmuls(TorchDispatchMode):
    """Record every matmul that runs while this context is open; a call runs all of them, one after another.

    Operands have the recorded shapes, strides and dtype, and random values. Matmuls within a fused kernel, such as
    ``scaled_dot_product_attention``, are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operands: list[tuple[Tensor, Tensor, Tensor]] = []
        self.flop = 0
        self._made: dict[tuple[Any, ...], Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet in PRODUCTS or packet in SUMS:
            left, right = args[:2] if packet in PRODUCTS else args[1:3]
            shape = (*left.shape[:-1], right.shape[-1])
            out = torch.empty(shape, dtype=left.dtype)
            self.flop += 2 * out.numel() * left.shape[-1]
            self.operands.append((self._like(left), self._like(right), self._like(out, "result")))
        return func(*args, **(kwargs or {}))

    def _like(self, tensor: Tensor, role: str = "operand") -> Tensor:
        """Return a random tensor of this layout; matmuls share operands of one layout, and results of one layout."""
        layout = (role, tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if layout not in self._made:
            size = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
            values = torch.randn(max(size, 0), dtype=tensor.dtype)
            self._made[layout] = values.as_strided(tensor.shape, tensor.stride())
        return self._made[layout]

    @torch.no_grad()
    def __call__(self) -> None:
        for left, right, out in self.operands:
            torch.matmul(left, right, out=out)
