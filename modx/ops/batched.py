"""The expert mixture for few tokens, where calls cost more than arithmetic: a bank is one product, groups run abreast.

B groups of n tokens each, shorter ones filled up with zeros; K experts a bank: its hidden layer is ``(B, n, K H)``.
The shared bank is one group of all tokens; with one group, dimension B is left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .activations import ACTIVATIONS, BACKWARD_
from .wide import differentiable_gradients


@dataclass(frozen=True)
class Plan:
    group_sizes: list[int]
    num_private: int
    num_shared: int
    activation: str

    def banks(self) -> Iterator["Bank"]:
        groups = len(self.group_sizes)
        if self.num_private and groups:
            yield Bank(0, self.group_sizes, slice(0, groups * self.num_private), slice(0, self.num_private))
        if self.num_shared:
            tokens = [sum(self.group_sizes)]
            yield Bank(1, tokens, slice(groups * self.num_private, None), slice(self.num_private, None))


@dataclass(frozen=True)
class Bank:
    """Where its output goes, the groups that run abreast, its experts and their gates."""

    output: int
    group_sizes: list[int]
    experts: slice
    gates: slice

    def fold(self, tokens: Tensor) -> Tensor:
        """``(T, ...)`` as ``(B, n, ...)``."""
        if len(self.group_sizes) == 1:
            return tokens
        if len(set(self.group_sizes)) == 1:
            return tokens.view(len(self.group_sizes), -1, tokens.shape[-1])
        return pad_sequence(tokens.split(self.group_sizes), batch_first=True)

    def unfold(self, tokens: Tensor) -> Tensor:
        """``(B, n, ...)`` as ``(T, ...)``."""
        if len(self.group_sizes) == 1:
            return tokens
        return torch.cat([part[:size] for part, size in zip(tokens, self.group_sizes, strict=True)])

    def split(self, weights: Tensor) -> Tensor:
        """``(E, ...)`` as ``(B, K, ...)``."""
        weights = weights[self.experts]
        groups = len(self.group_sizes)
        return weights if groups == 1 else weights.view(groups, -1, *weights.shape[1:])

    def widen(self, weights: Tensor) -> Tensor:
        """``(E, H, ...)`` as ``(B, K H, ...)``: the experts of a group side by side."""
        weights = weights[self.experts]
        groups = len(self.group_sizes)
        return weights.flatten(0, 1) if groups == 1 else weights.view(groups, -1, *weights.shape[2:])


# of one group, and of several
_PRODUCTS: dict[int, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    2: (torch.mm, torch.addmm),
    3: (torch.bmm, torch.baddbmm),
}


class ExpertMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, gates, w1, b1, w2, b2 = inputs
        outputs: list[Tensor | None] = [None, None]
        kept: list[Tensor] = []
        for bank in plan.banks():
            tokens, bias = bank.fold(x), bank.split(b2)
            _, add = _PRODUCTS[tokens.ndim]
            z = add(bank.widen(b1).unsqueeze(-2), tokens, bank.widen(w1).mT)
            a = scaled = ACTIVATIONS[plan.activation](z)
            if gates is None:
                bias = bias.sum(-2, keepdim=True)
            else:
                weights = bank.fold(gates[:, bank.gates].to(x.dtype))
                scaled = (a.view(*weights.shape, -1) * weights.unsqueeze(-1)).view_as(a)
                bias = weights @ bias
            outputs[bank.output] = bank.unfold(add(bias, scaled, bank.widen(w2)))
            kept += [tokens, z, a, scaled]
        ctx.plan = plan
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*inputs, *kept)
        private, shared = (x.new_zeros(x.shape[0], w2.shape[2]) if out is None else out for out in outputs)
        return private, shared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, needs = ctx.plan, ctx.needs_input_grad[1:]
        inputs, kept = ctx.saved_tensors[:6], iter(ctx.saved_tensors[6:])
        if torch.is_grad_enabled():  # someone will differentiate these gradients
            sizes = plan.group_sizes, plan.num_private, plan.num_shared, plan.activation
            return None, *differentiable_gradients(inputs, *sizes, needs, grads)
        x, gates, w1, _, w2, b2 = inputs
        need_x, need_gates, need_w1, need_b1, *_ = needs
        dx: Tensor | None = None
        dgates, dw1, db1, dw2, db2 = (
            torch.empty_like(part, memory_format=torch.contiguous_format) if need else None
            for part, need in zip(inputs[1:], needs[1:], strict=True)
        )
        for bank in plan.banks():
            tokens, z, a, scaled = next(kept), next(kept), next(kept), next(kept)
            multiply, add = _PRODUCTS[tokens.ndim]
            grad, bias = bank.fold(grads[bank.output]), bank.split(b2)
            weights = None if gates is None else bank.fold(gates[:, bank.gates].to(x.dtype))
            if dw2 is not None:
                multiply(scaled.mT, grad, out=bank.widen(dw2))
            if db2 is not None:
                bank.split(db2).copy_(grad.sum(-2, keepdim=True) if weights is None else weights.mT @ grad)
            if not (need_x or need_gates or need_w1 or need_b1):
                continue
            dz = multiply(grad, bank.widen(w2).mT)
            if weights is not None:
                by_expert = dz.view(*weights.shape, -1)
                if dgates is not None:
                    along = (a * dz).view_as(by_expert).sum(-1)
                    dgates[:, bank.gates] = bank.unfold(add(along, grad, bias.mT))
                by_expert.mul_(weights.unsqueeze(-1))
            dz = BACKWARD_[plan.activation](dz, z)
            if db1 is not None:
                torch.sum(dz, -2, out=bank.widen(db1))
            if dw1 is not None:
                multiply(dz.mT, tokens, out=bank.widen(dw1))
            if need_x:
                part = bank.unfold(multiply(dz, bank.widen(w1)))
                dx = part if dx is None else dx.add_(part)
        return None, dx, dgates, dw1, db1, dw2, db2
