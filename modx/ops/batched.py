"""The expert mixture for few tokens, where the calls between the matmuls cost as much as the matmuls.

Experts run in batches: the k-th private experts of all B groups on n tokens each (shorter groups are padded with
zeros), and the shared experts on all tokens. Router weights scale the outputs y rather than the wider hidden layers
a = act(z).
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
        x, router_weights, w1, b1, w2, b2 = mixture.tensors
        group_sizes, num_private = mixture.group_sizes, mixture.num_private
        columns = None if router_weights is None else router_weights.to(x.dtype).t()[:, :, None]
        private, shared = (x.new_zeros(len(x), w2.shape[2]) for _ in range(2))
        kept: list[Tensor] = []

        def run(experts: slice, tokens: Tensor) -> Tensor:
            z = torch.baddbmm(b1[experts, None], tokens, w1[experts].mT)
            a = ACTIVATIONS[mixture.activation].function(z)
            kept.extend((z, a))
            return torch.baddbmm(b2[experts, None], a, w2[experts])

        if mixture.first_shared:
            tokens = _fold(x, group_sizes)
            for k in range(num_private):
                y = _unfold(run(slice(k, mixture.first_shared, num_private), tokens), group_sizes)
                if columns is None:
                    private.add_(y)
                else:
                    private.addcmul_(y, columns[k])
                    kept.append(y)
        if mixture.num_shared:
            y = run(slice(mixture.first_shared, None), x.expand(mixture.num_shared, -1, -1))
            if columns is None:
                torch.sum(y, 0, out=shared)
            else:
                torch.sum(y * columns[num_private:], 0, out=shared)
                kept.append(y)
        ctx.layout = mixture.layout
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*mixture.tensors, *kept)
        return private, shared

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
        columns = None if router_weights is None else router_weights.to(x.dtype).t()[:, :, None]
        dx, d_router_weights, dw1, db1, dw2, db2 = (
            torch.empty_like(part, memory_format=torch.contiguous_format) if need and part is not None else None
            for part, need in zip(mixture.tensors, needs.tensors, strict=True)
        )

        def run(experts: slice, tokens: Tensor, grad: Tensor, z: Tensor, a: Tensor) -> Tensor | None:
            """Write the gradients of a batch's experts, and return dz if it is needed."""
            if db2 is not None:
                torch.sum(grad, 1, out=db2[experts])
            if dw2 is not None:
                torch.bmm(a.mT, grad, out=dw2[experts])
            if not (needs.x or needs.w1 or needs.b1):
                return None
            dz = ACTIVATIONS[activation].backward_(torch.bmm(grad, w2[experts].mT), z)
            if db1 is not None:
                torch.sum(dz, 1, out=db1[experts])
            if dw1 is not None:
                torch.bmm(dz.mT, tokens, out=dw1[experts])
            return dz

        if dx is not None:
            dx.zero_()
        if mixture.first_shared:
            tokens = _fold(x, group_sizes)
            for k in range(num_private):
                z, a = next(kept), next(kept)
                grad = d_private
                if columns is not None:
                    y, grad = next(kept), d_private * columns[k]
                    if d_router_weights is not None:
                        d_router_weights[:, k] = (y * d_private).sum(1)
                experts = slice(k, mixture.first_shared, num_private)
                dz = run(experts, tokens, _fold(grad, group_sizes), z, a)
                if dx is not None and dz is not None:
                    dx.add_(_unfold(torch.bmm(dz, w1[experts]), group_sizes))
        if num_shared:
            z, a = next(kept), next(kept)
            grad = d_shared.expand(num_shared, -1, -1)
            if columns is not None:
                y, grad = next(kept), d_shared * columns[num_private:]
                if d_router_weights is not None:
                    d_router_weights[:, num_private:] = (y * d_shared).sum(2).t()
            experts = slice(mixture.first_shared, None)
            dz = run(experts, x.expand(num_shared, -1, -1), grad, z, a)
            if dx is not None and dz is not None:
                dx.addbmm_(dz, w1[experts])
        return dx, d_router_weights, dw1, db1, dw2, db2, None, None, None, None


def _fold(tokens: Tensor, group_sizes: Sequence[int]) -> Tensor:
    """Reshape ``(T, D)`` to ``(B, n, D)``, with padding if needed."""
    if len(set(group_sizes)) == 1:
        return tokens.reshape(len(group_sizes), -1, tokens.shape[1])
    return pad_sequence(tokens.split(group_sizes), batch_first=True)


def _unfold(tokens: Tensor, group_sizes: Sequence[int]) -> Tensor:
    """Reshape ``(B, n, D)`` to ``(T, D)``, without the padding."""
    if len(set(group_sizes)) == 1:
        return tokens.flatten(0, 1)
    return torch.cat([part[:size] for part, size in zip(tokens, group_sizes, strict=True)])
