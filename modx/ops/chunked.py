"""The expert mixture as one autograd function, block by block: a few experts on a stretch of tokens.

Weights w scale the outputs y, not the wider hidden layers a = act(z). A block's B experts read n tokens each:
z, a ``(B, n, H)``, y ``(B, n, D_out)``, w ``(B, n, 1)``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .activations import ACTIVATIONS, BACKWARD_
from .wide import expert_mixture as wide

# Hidden elements of an expert up to which experts share a batched product: it saves calls, which is most of the time
# of small products, but a batch runs at about three quarters of the speed of the single product of a large one.
BATCH_ELEMENTS = 2**17
CHUNK_ELEMENTS = 2**20  # hidden elements that exist at a time when memory counts most


@dataclass(frozen=True)
class Block:
    """Experts that run as one: each on the same tokens, or, with groups > 1, each on its share of them."""

    tokens: slice
    groups: int
    experts: slice
    gates: slice
    shared: bool
    first: bool  # of the blocks of these experts

    def split(self, x: Tensor) -> Tensor:
        """The block's tokens of ``(T, D)`` as ``(groups, n, D)``."""
        return x[self.tokens].unflatten(0, (self.groups, -1)) if self.groups > 1 else x[self.tokens].unsqueeze(0)

    def pick(self, gates: Tensor) -> Tensor:
        """The block's part of the transposed weights ``(P + S, T)`` as ``(B, n, 1)``."""
        part = gates[self.gates, self.tokens]
        return (part.unflatten(1, (self.groups, -1)).squeeze(0) if self.groups > 1 else part).unsqueeze(2)


@dataclass(frozen=True)
class Plan:
    group_sizes: list[int]
    num_private: int
    num_shared: int
    activation: str
    least_memory: bool

    def blocks(self, hidden_dim: int) -> Iterator[Block]:
        groups, private, num_tokens = len(self.group_sizes), self.num_private, sum(self.group_sizes)
        batched = not self.least_memory and num_tokens * hidden_dim <= BATCH_ELEMENTS
        if batched and num_tokens and groups > 1 and len(set(self.group_sizes)) == 1:
            for k in range(private):
                experts = slice(k, groups * private, private)
                yield Block(slice(0, num_tokens), groups, experts, slice(k, k + 1), False, True)
        else:
            start = 0
            for group, size in enumerate(self.group_sizes):
                for k in range(private):
                    yield from self._run(start, size, group * private + k, 1, k, hidden_dim)
                start += size
        step = self.num_shared if batched else 1
        for k in range(0, self.num_shared, step or 1):
            yield from self._run(0, num_tokens, groups * private + k, step, private + k, hidden_dim)

    def _run(self, start: int, size: int, expert: int, count: int, gate: int, hidden_dim: int) -> Iterator[Block]:
        # an empty group has a block too: its products give its experts their zeros
        rows = max(1, CHUNK_ELEMENTS // max(1, hidden_dim) if self.least_memory else size)
        for at in range(0, max(size, 1), rows):
            tokens = slice(start + at, start + min(at + rows, size))
            experts, gates = slice(expert, expert + count), slice(gate, gate + count)
            yield Block(tokens, 1, experts, gates, gate >= self.num_private, at == 0)


class ExpertMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        x, gates, w1, b1, w2, b2 = _prepare(*inputs)
        need_x, need_gates, need_w1, need_b1, need_w2, _ = ctx.needs_input_grad[1:]
        outputs = [x.new_zeros(x.shape[0], w2.shape[2]) for _ in range(2)]
        kept: list[Tensor | None] = []
        for block in plan.blocks(w1.shape[1]):
            z, a, y = _run_experts(block, plan.activation, x, w1, b1, w2, b2)
            _accumulate(block.split(outputs[block.shared]), y, None if gates is None else block.pick(gates))
            if not plan.least_memory:
                kept += [
                    z if need_x or need_w1 or need_b1 else None,
                    a if need_w2 else None,
                    y if need_gates else None,
                ]
        ctx.plan = plan
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*inputs, *kept)
        return outputs[0], outputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, needs = ctx.plan, ctx.needs_input_grad[1:]
        inputs, kept = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
        if torch.is_grad_enabled():  # someone will differentiate these gradients
            return None, *_differentiable_gradients(plan, inputs, needs, grads)
        x, gates, w1, b1, w2, b2 = _prepare(*inputs)
        grads = tuple(grad.contiguous() for grad in grads)
        need_x, need_gates, need_w1, need_b1, need_w2, need_b2 = needs
        dx = torch.zeros_like(x) if need_x else None
        dgates = torch.empty_like(gates) if need_gates else None
        dw1, dw2 = (w.new_empty(w.shape) if need else None for w, need in ((w1, need_w1), (w2, need_w2)))
        db1, db2 = (b.new_zeros(b.shape) if need else None for b, need in ((b1, need_b1), (b2, need_b2)))
        for index, block in enumerate(plan.blocks(w1.shape[1])):
            if plan.least_memory:
                z, a, y = _run_experts(block, plan.activation, x, w1, b1, w2, b2)
            else:
                z, a, y = kept[3 * index : 3 * index + 3]
            experts, beta = block.experts, int(not block.first)
            count = len(range(*experts.indices(w1.shape[0])))
            tokens, grad = block.split(x), block.split(grads[block.shared])
            if dgates is not None:
                block.pick(dgates).copy_((y * grad).sum(2, keepdim=True))
            grad = grad * block.pick(gates) if gates is not None else grad.expand(count, -1, -1)
            if db2 is not None:
                db2[experts].add_(grad.sum(1))
            if dw2 is not None:
                dw2[experts].baddbmm_(a.mT, grad, beta=beta)
            if not (need_x or need_w1 or need_b1):
                continue
            dz = BACKWARD_[plan.activation](torch.bmm(grad, w2[experts].mT), z)
            if db1 is not None:
                db1[experts].add_(dz.sum(1))
            if dw1 is not None:
                dw1[experts].baddbmm_(dz.mT, tokens.expand(count, -1, -1), beta=beta)
            if dx is not None:
                _accumulate(block.split(dx), torch.bmm(dz, w1[experts]), None)
        # inputs[1] may be of a wider dtype than the rest
        return None, dx, None if dgates is None else dgates.t().to(inputs[1].dtype), dw1, db1, dw2, db2


def _prepare(x: Any, gates: Any, *banks: Any) -> tuple[Any, ...]:
    """The tokens contiguous; the weights in their dtype, a row an expert."""
    return x.contiguous(), None if gates is None else gates.to(x.dtype).t().contiguous(), *banks


def _run_experts(
    block: Block, activation: str, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    bank = w1[block.experts]
    # adding the bias afterwards is faster than baddbmm, which first copies it to every row
    z = torch.bmm(block.split(x).expand(bank.shape[0], -1, -1), bank.mT).add_(b1[block.experts].unsqueeze(1))
    a = ACTIVATIONS[activation](z)
    return z, a, torch.bmm(a, w2[block.experts]).add_(b2[block.experts].unsqueeze(1))


def _accumulate(total: Tensor, parts: Tensor, gates: Tensor | None) -> None:
    """Add to ``(groups, n, D)`` an expert's part each, or the sum of all experts' where they share their tokens."""
    if parts.shape[0] == total.shape[0]:
        total.add_(parts) if gates is None else total.addcmul_(parts, gates)
    else:
        total.add_((parts if gates is None else parts * gates).sum(0))


def _differentiable_gradients(
    plan: Plan, inputs: tuple[Any, ...], needs: tuple[bool, ...], grads: tuple[Tensor, ...]
) -> list[Tensor | None]:
    outputs = wide(
        *inputs,
        group_sizes=plan.group_sizes,
        num_private=plan.num_private,
        num_shared=plan.num_shared,
        activation=plan.activation,
    )
    # a sum over no experts depends on nothing
    pairs = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if output.requires_grad]
    wanted = [part for part, need in zip(inputs, needs, strict=True) if need and part is not None]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs], wanted, [grad for _, grad in pairs], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if need else None for need in needs]
