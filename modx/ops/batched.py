"""The expert mixture for small batches, where launch overhead dominates: as few and as large matmuls as possible.

The k-th private experts of all B groups run as one batch of n tokens each; shorter groups are padded with zeros. The
shared experts run as one MLP with a hidden layer ``(T, S H)``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .activations import ACTIVATIONS
from .composed import differentiable_gradients
from .mixture import Mixture


class BatchedMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        mixture = Mixture(*arguments)
        x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation = mixture
        activate, first_shared = ACTIVATIONS[activation].function, mixture.first_shared
        weights = None if router_weights is None else router_weights.to(x.dtype).contiguous()
        private: Tensor | None = None
        shared: Tensor | None = None
        kept: list[Tensor] = []
        if first_shared:
            tokens = _fold(x, group_sizes)
            folded = None if weights is None else _fold(weights, group_sizes)
            parts: list[Tensor] = []
            for k in range(num_private):
                experts = slice(k, first_shared, num_private)
                z = torch.bmm(tokens, w1[experts].mT).add_(b1[experts].unsqueeze(1))
                a = activate(z)
                y = torch.bmm(a, w2[experts]).add_(b2[experts].unsqueeze(1))
                kept += [z, a, y]
                parts.append(y if folded is None else y * folded[:, :, k, None])
            private = _unfold(sum(parts[1:], parts[0]), group_sizes)
        if num_shared:
            z = torch.addmm(b1[first_shared:].flatten(), x, w1[first_shared:].flatten(0, 1).T)
            a = scaled = activate(z)
            bias = b2[first_shared:].sum(0)
            if weights is not None:
                scaled = (a.view(len(x), num_shared, -1) * weights[:, num_private:, None]).view_as(a)
                bias = weights[:, num_private:] @ b2[first_shared:]
            shared = torch.addmm(bias, scaled, w2[first_shared:].flatten(0, 1))
            kept += [z, a] if weights is None else [z, a, scaled]  # nothing is saved twice, as offloading would pay
        ctx.layout = mixture.layout
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*mixture.tensors, *kept)
        return (
            x.new_zeros(len(x), w2.shape[2]) if private is None else private,
            x.new_zeros(len(x), w2.shape[2]) if shared is None else shared,
        )

    @staticmethod
    def backward(ctx: Any, d_private: Tensor, d_shared: Tensor) -> tuple[Tensor | None, ...]:
        # read once: activation checkpointing hands out each recomputed tensor only once
        x, router_weights, w1, b1, w2, b2, *saved = ctx.saved_tensors
        mixture = Mixture(x, router_weights, w1, b1, w2, b2, *ctx.layout)
        needs: Any = Mixture(*ctx.needs_input_grad)
        if torch.is_grad_enabled():  # these gradients will be differentiated
            gradients = differentiable_gradients(mixture, needs.tensors, (d_private, d_shared))
            return *gradients, None, None, None, None
        kept = iter(saved)
        group_sizes, num_private, num_shared, activation = mixture.layout
        derive_, first_shared = ACTIVATIONS[activation].backward_, mixture.first_shared
        weights = None if router_weights is None else router_weights.to(x.dtype).contiguous()
        dx: Tensor | None = None
        d_router_weights, dw1, db1, dw2, db2 = (
            torch.empty_like(part, memory_format=torch.contiguous_format) if need else None
            for part, need in (
                (router_weights, needs.router_weights),
                (w1, needs.w1),
                (b1, needs.b1),
                (w2, needs.w2),
                (b2, needs.b2),
            )
        )
        need_dz = needs.x or needs.w1 or needs.b1
        if first_shared:
            tokens, incoming = _fold(x, group_sizes), _fold(d_private.contiguous(), group_sizes)
            folded = None if weights is None else _fold(weights, group_sizes)
            for k in range(num_private):
                z, a, y = next(kept), next(kept), next(kept)
                experts = slice(k, first_shared, num_private)
                grad = incoming if folded is None else incoming * folded[:, :, k, None]
                if d_router_weights is not None:
                    d_router_weights[:, k, None] = _unfold((y * incoming).sum(2, keepdim=True), group_sizes)
                if db2 is not None:
                    torch.sum(grad, 1, out=db2[experts])
                if dw2 is not None:
                    torch.bmm(a.mT, grad, out=dw2[experts])
                if not need_dz:
                    continue
                dz = derive_(torch.bmm(grad, w2[experts].mT), z)
                if db1 is not None:
                    torch.sum(dz, 1, out=db1[experts])
                if dw1 is not None:
                    torch.bmm(dz.mT, tokens, out=dw1[experts])
                if needs.x:
                    part = _unfold(torch.bmm(dz, w1[experts]), group_sizes)
                    dx = part if dx is None else dx.add_(part)
        if num_shared:
            z, a = next(kept), next(kept)
            scaled = a if weights is None else next(kept)
            shared_weights = None if weights is None else weights[:, num_private:]
            if db2 is not None:
                db2[first_shared:] = d_shared.sum(0) if shared_weights is None else shared_weights.T @ d_shared
            if dw2 is not None:
                torch.mm(scaled.T, d_shared, out=dw2[first_shared:].flatten(0, 1))
            if need_dz or needs.router_weights:
                dz = d_shared @ w2[first_shared:].flatten(0, 1).T
                if shared_weights is not None:
                    by_expert = dz.view(len(x), num_shared, -1)
                    if d_router_weights is not None:
                        along = (a * dz).view_as(by_expert).sum(2)
                        d_router_weights[:, num_private:] = torch.addmm(along, d_shared, b2[first_shared:].T)
                    by_expert.mul_(shared_weights[:, :, None])
                dz = derive_(dz, z)
                if db1 is not None:
                    torch.sum(dz, 0, out=db1[first_shared:].view(-1))
                if dw1 is not None:
                    torch.mm(dz.T, x, out=dw1[first_shared:].flatten(0, 1))
                if needs.x:
                    bank = w1[first_shared:].flatten(0, 1)
                    dx = dz @ bank if dx is None else dx.addmm_(dz, bank)
        return dx, d_router_weights, dw1, db1, dw2, db2, None, None, None, None


def _fold(tokens: Tensor, group_sizes: Sequence[int]) -> Tensor:
    """Reshape ``(T, D)`` to ``(B, n, D)``, with padding if needed."""
    if len(set(group_sizes)) == 1:
        return tokens.view(len(group_sizes), -1, tokens.shape[1])
    return pad_sequence(tokens.split(group_sizes), batch_first=True)


def _unfold(tokens: Tensor, group_sizes: Sequence[int]) -> Tensor:
    """Reshape ``(B, n, D)`` to ``(T, D)``, without the padding."""
    return torch.cat([part[:size] for part, size in zip(tokens, group_sizes, strict=True)])
