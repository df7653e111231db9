"""The expert mixture for few tokens, where calls cost more than arithmetic: as few and as large products as there are.

Private experts run group beside group, B groups of n tokens, shorter ones filled up with zeros. The shared bank is one
product, its hidden layer ``(T, S H)``.
"""

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

    def fold(self, tokens: Tensor) -> Tensor:
        """``(T, D)`` as ``(B, n, D)``."""
        if len(set(self.group_sizes)) == 1:
            return tokens.view(len(self.group_sizes), -1, tokens.shape[1])
        return pad_sequence(tokens.split(self.group_sizes), batch_first=True)

    def unfold(self, tokens: Tensor) -> Tensor:
        """``(B, n, D)`` as ``(T, D)``."""
        return torch.cat([part[:size] for part, size in zip(tokens, self.group_sizes, strict=True)])


class ExpertMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, gates, w1, b1, w2, b2 = inputs
        activate, num_private = ACTIVATIONS[plan.activation], plan.num_private
        own = len(plan.group_sizes) * num_private
        weights = None if gates is None else gates.to(x.dtype).contiguous()
        private: Tensor | None = None
        shared: Tensor | None = None
        kept: list[Tensor] = []
        if own:
            tokens = plan.fold(x)
            folded = None if weights is None else plan.fold(weights)
            kept.append(tokens)
            parts: list[Tensor] = []
            for k in range(num_private):
                experts = slice(k, own, num_private)
                z = torch.bmm(tokens, w1[experts].mT).add_(b1[experts].unsqueeze(1))
                a = activate(z)
                y = torch.bmm(a, w2[experts]).add_(b2[experts].unsqueeze(1))
                kept += [z, a, y]
                parts.append(y if folded is None else y * folded[:, :, k, None])
            private = plan.unfold(sum(parts[1:], parts[0]))
        if plan.num_shared:
            z = torch.addmm(b1[own:].flatten(), x, w1[own:].flatten(0, 1).T)
            a = scaled = activate(z)
            bias = b2[own:].sum(0)
            if weights is not None:
                scaled = (a.view(len(x), plan.num_shared, -1) * weights[:, num_private:, None]).view_as(a)
                bias = weights[:, num_private:] @ b2[own:]
            shared = torch.addmm(bias, scaled, w2[own:].flatten(0, 1))
            kept += [z, a, scaled]
        ctx.plan = plan
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*inputs, *kept)
        zeros = [x.new_zeros(len(x), w2.shape[2]) for out in (private, shared) if out is None]
        return zeros[0] if private is None else private, zeros[-1] if shared is None else shared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, needs = ctx.plan, ctx.needs_input_grad[1:]
        inputs, kept = ctx.saved_tensors[:6], iter(ctx.saved_tensors[6:])
        if torch.is_grad_enabled():  # someone will differentiate these gradients
            sizes = plan.group_sizes, plan.num_private, plan.num_shared, plan.activation
            return None, *differentiable_gradients(inputs, *sizes, needs, grads)
        x, gates, w1, _, w2, b2 = inputs
        need_x, need_gates, need_w1, need_b1, *_ = needs
        derive_, num_private = BACKWARD_[plan.activation], plan.num_private
        own = len(plan.group_sizes) * num_private
        weights = None if gates is None else gates.to(x.dtype).contiguous()
        dx: Tensor | None = None
        dgates, dw1, db1, dw2, db2 = (
            torch.empty_like(part, memory_format=torch.contiguous_format) if need else None
            for part, need in zip(inputs[1:], needs[1:], strict=True)
        )
        if own:
            tokens, incoming = next(kept), plan.fold(grads[0].contiguous())
            folded = None if weights is None else plan.fold(weights)
            for k in range(num_private):
                z, a, y = next(kept), next(kept), next(kept)
                experts = slice(k, own, num_private)
                grad = incoming if folded is None else incoming * folded[:, :, k, None]
                if dgates is not None:
                    dgates[:, k, None] = plan.unfold((y * incoming).sum(2, keepdim=True))
                if db2 is not None:
                    torch.sum(grad, 1, out=db2[experts])
                if dw2 is not None:
                    torch.bmm(a.mT, grad, out=dw2[experts])
                if not (need_x or need_w1 or need_b1):
                    continue
                dz = derive_(torch.bmm(grad, w2[experts].mT), z)
                if db1 is not None:
                    torch.sum(dz, 1, out=db1[experts])
                if dw1 is not None:
                    torch.bmm(dz.mT, tokens, out=dw1[experts])
                if need_x:
                    part = plan.unfold(torch.bmm(dz, w1[experts]))
                    dx = part if dx is None else dx.add_(part)
        if plan.num_shared:
            z, a, scaled = next(kept), next(kept), next(kept)
            grad = grads[1]
            own_weights = None if weights is None else weights[:, num_private:]
            if db2 is not None:
                db2[own:] = grad.sum(0) if own_weights is None else own_weights.T @ grad
            if dw2 is not None:
                torch.mm(scaled.T, grad, out=dw2[own:].flatten(0, 1))
            if need_x or need_gates or need_w1 or need_b1:
                dz = grad @ w2[own:].flatten(0, 1).T
                if own_weights is not None:
                    by_expert = dz.view(len(x), plan.num_shared, -1)
                    if dgates is not None:
                        along = (a * dz).view_as(by_expert).sum(2)
                        dgates[:, num_private:] = torch.addmm(along, grad, b2[own:].T)
                    by_expert.mul_(own_weights[:, :, None])
                dz = derive_(dz, z)
                if db1 is not None:
                    torch.sum(dz, 0, out=db1[own:].view(-1))
                if dw1 is not None:
                    torch.mm(dz.T, x, out=dw1[own:].flatten(0, 1))
                if need_x:
                    bank = w1[own:].flatten(0, 1)
                    dx = dz @ bank if dx is None else dx.addmm_(dz, bank)
        return None, dx, dgates, dw1, db1, dw2, db2
