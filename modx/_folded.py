"""Attention from bottleneck tokens to a sequence, without making a frame as wide as the model.

B samples, N bottleneck tokens, T = N + L places (the tokens, then the frames), d the width of a frame, D that of the
model, H heads of width v, K = H N queries.

In an encoder of one block the queries come from learned tokens, so they are the same for all samples. Place t of a
sample holds x = W f + c_t. For a frame f, c_t is bias plus position. For a token, f is 0 and c_t is the token plus its
position. Center W and c_t over the width: then x has mean 0, and LayerNorm divides it by σ, D (σ² - ε) = \\|W f + c_t\\|².
The rest is linear in x. With an absorbed query u (see ``TransformerBlock``), value weights V and attention weights p::

    score  = u · x / σ   = (u W · f + u · c_t) / σ                 (K, B, T)
    output = V Σ_t p x / σ = V W Σ_t (p / σ) f + Σ_t (p / σ) V c_t   (K, B, v)

u W, u · c_t, V W and V c_t are computed once per call. Nothing else of size B T is wider than d or K.

Expanding the square, f · WᵀW f + 2 f · Wᵀc_t + \\|c_t\\|², would lose every digit of σ where W f nearly cancels c_t. With
W = Q R, the columns of Q orthonormal, it is the sum of squares \\|R f + Qᵀc_t\\|² + \\|c_t - Q Qᵀc_t\\|², which cannot. Q and
R have no derivative where W lacks full rank, but the square has: 2 (W f + c_t) with respect to x.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    frames: Tensor,
    weight: Tensor,
    constants: Tensor,
    queries: Tensor,
    values: Tensor,
    key_shift: Tensor,
    mask: Tensor | None,
    eps: float,
) -> Tensor:
    """Attend from the bottleneck tokens to themselves and to the frames of their sample.

    Args:
        frames: ``(B, L, d)``, finite everywhere.
        weight: Input projection, ``(D, d)``.
        constants: ``(N + L, D)``, what each place holds besides its projected frame.
        queries: Absorbed queries, ``(H, N, D)``.
        values: Value weights times the scale of their LayerNorm, ``(H, v, D)``.
        key_shift: Shift of the keys' LayerNorm. It adds the same to all scores of a query, so it changes nothing; it
            gets a gradient of zeros, as DDP expects one for every parameter.
        mask: Bool ``(B, L)``, True where a frame is visible. Default: every frame is visible.
        eps: Of the LayerNorm.

    Returns:
        The heads' outputs side by side, ``(B, N, H v)``, without the shift of the values' LayerNorm.
    """
    num_heads, num_tokens = queries.shape[:2]
    weight = weight - weight.mean(0)
    constants = constants - constants.mean(1, keepdim=True)
    queries = queries.flatten(0, 1)
    outputs: Tensor = _Attention.apply(
        F.pad(frames, (0, 0, num_tokens, 0)),
        weight,
        constants,
        queries @ weight,
        queries @ constants.T,
        weight.T @ values.mT,
        constants @ values.mT,
        key_shift,
        None if mask is None else F.pad(mask, (num_tokens, 0), value=True),
        eps,
    )
    return outputs.unflatten(1, (num_tokens, -1)).permute(2, 1, 0, 3).flatten(2)


def why_not(frames: Tensor, dim: int) -> str | None:
    """Return the reason why frames of this size are encoded as fast without ``attend``, or None if they are not."""
    batch_size, length, width = frames.shape
    if 2 * width > dim:
        return f"frames {width} wide, more than half of the model's {dim}"
    if batch_size == 1 or length < 100:
        return f"few frames ({batch_size * length}), which gain nothing"
    return None


class _Attention(torch.autograd.Function):
    """f ``(B, T, d)``, W ``(D, d)``, c ``(T, D)``, u W ``(K, d)``, u c ``(K, T)``, V W ``(H, d, v)``, V c ``(H, T, v)``
    to outputs ``(H, N B, v)``. W and c serve for σ alone."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        f, weight, constants, u_weight, u_constants, v_weight, v_constants, key_shift, mask, eps = arguments
        batch_size, length, width = f.shape
        num_heads, num_queries, dim = len(v_weight), len(u_weight), len(weight)
        basis, rotated = torch.linalg.qr(weight)
        along = constants @ basis
        across = (constants - along @ basis.T).square_().sum(1)
        flat = f.view(-1, width)
        x = (flat @ rotated.T).unflatten(0, (batch_size, length)).add_(along)
        rstd = x.square_().sum(2).add_(across).div_(dim).add_(eps).rsqrt_()
        scores = (u_weight @ flat.T).view(num_queries, batch_size, length)
        scores.add_(u_constants[:, None]).mul_(rstd)
        if mask is not None:
            scores.masked_fill_(~mask, -torch.inf)
        q = scores.softmax(2).mul_(rstd)
        by_head = q.view(num_heads, -1, length)
        sums = torch.bmm(q.transpose(0, 1), f).transpose(0, 1).reshape(num_heads, -1, width)
        outputs = torch.bmm(by_head, v_constants).baddbmm_(sums, v_weight)
        ctx.dim, ctx.eps = dim, eps
        ctx.save_for_backward(*arguments[:-1], rotated, along, rstd, q, sums, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """q = p / σ is all that is kept of size (K, B, T).

        With dq the gradient of q, that of u · x is q (dq / σ - Σ_t q dq), and Σ_t q dq = grad · output.
        """
        # read once: activation checkpointing hands out each recomputed tensor only once
        *arguments, rotated, along, rstd, q, sums, outputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients will be differentiated
            return *_differentiable_gradients(arguments, ctx.eps, ctx.needs_input_grad, grad), None, None
        f, weight, constants, u_weight, u_constants, v_weight, v_constants, key_shift, _ = arguments
        num_queries, batch_size, length = q.shape
        flat, by_head, grad = f.view(-1, f.shape[2]), q.view(len(v_weight), -1, length), grad.contiguous()
        d_sums = torch.bmm(grad, v_weight.mT).view(num_queries, batch_size, f.shape[2]).transpose(0, 1)
        dq = torch.bmm(grad, v_constants.mT).view_as(q)
        dq.transpose(0, 1).baddbmm_(d_sums, f.mT)
        along_q = (q * dq).sum(0)
        total = (grad * outputs).sum(2).view(num_queries, batch_size, 1)
        du = torch.addcmul(-total, dq, rstd, out=dq).mul_(q)
        df = (du.flatten(1).T @ u_weight).view_as(f)
        along_u = (du * u_constants[:, None]).sum(0).add_((df * f).sum(2))
        d_square = (along_q + along_u) * rstd.square() * (-0.5 / ctx.dim)
        scaled = f * d_square[..., None]
        by_place = scaled.sum(0)
        d_weight = 2 * (weight @ (scaled.view_as(flat).T @ flat) + constants.T @ by_place)
        d_constants = 2 * (by_place @ weight.T + d_square.sum(0)[:, None] * constants)
        if ctx.needs_input_grad[0]:
            df.baddbmm_(q.permute(1, 2, 0), d_sums)
            x = (flat @ rotated.T).unflatten(0, (batch_size, length)).add_(along)
            df.view_as(flat).addmm_((x * d_square[..., None]).flatten(0, 1), rotated, alpha=2)
        return (
            df if ctx.needs_input_grad[0] else None,
            d_weight,
            d_constants,
            du.flatten(1) @ flat,
            du.sum(1),
            torch.bmm(sums.mT, grad),
            torch.bmm(by_head.mT, grad),
            torch.zeros_like(key_shift),
            None,
            None,
        )


def _differentiable(
    f: Tensor,
    weight: Tensor,
    constants: Tensor,
    u_weight: Tensor,
    u_constants: Tensor,
    v_weight: Tensor,
    v_constants: Tensor,
    key_shift: Tensor,
    mask: Tensor | None,
    eps: float,
) -> Tensor:
    """Compute the same in differentiable operations, with places as wide as the model."""
    variance = (f @ weight.T + constants).square().mean(2)
    rstd = (variance + eps).rsqrt()
    scores = (torch.einsum("kd,btd->kbt", u_weight, f) + u_constants[:, None]) * rstd
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    q = scores.softmax(2) * rstd
    sums = torch.einsum("kbt,btd->kbd", q, f)
    num_heads = len(v_weight)
    outputs = q.reshape(num_heads, -1, q.shape[2]) @ v_constants + sums.reshape(num_heads, -1, f.shape[2]) @ v_weight
    return outputs + 0 * key_shift.sum()


def _differentiable_gradients(
    arguments: list[Any], eps: float, needs: tuple[bool, ...], grad: Tensor
) -> list[Tensor | None]:
    """Compute differentiable gradients of the tensors that need them."""
    tensors = arguments[:-1]
    wanted = [part for part, need in zip(tensors, needs, strict=False) if need]
    found = iter(torch.autograd.grad(_differentiable(*arguments, eps), wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needs[: len(tensors)]]
