"""Attention from bottleneck tokens to a sequence, without making a frame as wide as the model.

B samples, N bottleneck tokens, T = N + L places (the tokens, then the frames), d the width of a frame, D that of the
model, H heads of width v, K = H N queries.

In an encoder of one block the queries come from learned tokens, so they are the same for all samples. Place t of a
sample holds W f + c_t: f is the frame, c_t the projection's bias plus the position. For a token, f is 0 and c_t is the
token plus its position. With W and c_t centered over the width, LayerNorm divides by σ, where
D (σ² - ε) = |W f + c_t|², and the rest is linear. With absorbed queries u (see ``TransformerBlock``), value weights V
and attention weights p::

    score  = u · (W f + c_t) / σ                (K, B, T)
    output = V Σ_t p (W f + c_t) / σ            (K, B, v)

Every W f lies in the same d dimensions. Let W = Q R with orthonormal columns Q, (D, d). Then
W f + c_t = Q x + r_t, where x = R f + Qᵀ c_t is d wide and r_t, the part of c_t that no frame reaches, is the same for
all samples::

    score  = (u Q · x + u · r_t) / σ
    output = V Q Σ_t (p / σ) x + Σ_t (p / σ) V r_t
    D (σ² - ε) = |x|² + |r_t|²

u Q, u · r_t, V Q and V r_t are computed once per call; per frame there are x and K scores. Where W f nearly cancels
c_t, it does so in x, as it would in W f + c_t, and the sum of squares loses no digits; expanding |W f + c_t|² into
f · WᵀW f + 2 f · Wᵀ c_t + |c_t|² would lose them all.

With two blocks or more there is nothing to fold: the first block computes a row for every frame, and the last one reads
rows that are as wide as the model.

The result depends on W and c_t, not on the choice of Q. So no gradient passes through the factorization, which has none
where W lacks full rank: the backward pass is that of the first two equations, written in terms of x and r_t.
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
    num_tokens = queries.shape[1]
    bias = None
    if mask is not None:
        hidden = F.pad(~mask, (num_tokens, 0))
        bias = torch.zeros_like(hidden, dtype=frames.dtype).masked_fill_(hidden, -torch.inf)
    run: Any = _Attention.apply
    outputs: Tensor = run(
        F.pad(frames, (0, 0, num_tokens, 0)),
        weight,
        constants,
        queries.flatten(0, 1),
        values,
        key_shift,
        bias,
        eps,
    )
    by_sample: Tensor = outputs.unflatten(1, (num_tokens, -1)).permute(2, 1, 0, 3)
    return by_sample.flatten(2)


# What is computed once per call costs as much as making the frames of some samples wide. Time of wide frames / folded
# ones, forward and backward, width 128, 4 tokens (CPU time of one thread, Intel Xeon with AMX, torch 2.13):
#
#   samples                 4     8    16    32
#   25 frames, 5 wide    0.93  1.02   1.2   1.5
#   375 frames, 5 wide   0.94   1.3   1.9   2.7
#   500 frames, 20 wide  0.93   1.2   2.1   2.4
#
# 64 samples of 50 frames that are 5, 20, 64, 96 and 128 wide: 2.1, 1.8, 1.5, 1.2 and 1.1. No GPU has measured it yet.
MIN_SAMPLES = 8


def why_not(frames: Tensor, dim: int) -> str | None:
    """Return the reason why frames of this size gain nothing from ``attend``, or None if they gain."""
    batch_size, _, width = frames.shape
    if width >= dim:
        return f"frames {width} wide, no less than the model's {dim}"
    if batch_size < MIN_SAMPLES:
        return f"fewer than {MIN_SAMPLES} samples, which gain nothing"
    return None


class _Attention(torch.autograd.Function):
    """From f ``(B, T, d)``, W ``(D, d)``, c ``(T, D)``, u ``(K, D)``, V ``(H, v, D)``, the shift of the keys and a bias
    of the scores ``(B, T)``, None for zeros, to the outputs ``(H, N B, v)``."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        f, weight, constants, queries, values, _, bias, eps = arguments
        num_heads, (batch_size, length, _) = len(values), f.shape
        basis, rotation, along, rest = (part.to(f.dtype) for part in _rotate(weight.double(), constants.double()))
        x = (f.flatten(0, 1) @ rotation.T).view(batch_size, length, len(rotation)).add_(along)
        rstd = torch.linalg.vecdot(x, x).add_(rest.square().sum(1)).div_(len(weight)).add_(eps).rsqrt_()
        scores = (queries @ basis @ x.flatten(0, 1).T).view(len(queries), batch_size, length)
        scores.add_((queries @ rest.T)[:, None])
        if bias is None:
            scores.mul_(rstd)
        else:  # a seventh of the time of masked_fill_
            torch.addcmul(bias, scores, rstd, out=scores)
        q = scores.softmax(2).mul_(rstd)
        sums = torch.bmm(q.transpose(0, 1), x).transpose(0, 1).reshape(num_heads, -1, x.shape[2])
        outputs = torch.bmm(q.view(num_heads, -1, length), (values @ rest.T).mT).baddbmm_(sums, (values @ basis).mT)
        ctx.eps = eps
        ctx.save_for_backward(*arguments[:-1], basis, rotation, rest, x, rstd, q, sums, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):  # in case the backward pass runs inside autocast
            return _backward(ctx, grad)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of size (K, B, T), only q = p / σ was kept.

    With dq the gradient of q, that of a score before the division by σ is ds = q (dq / σ - Σ_t q dq), and
    Σ_t q dq = grad · output. The gradient of |W f + c_t|² is d_square.
    """
    # read once: activation checkpointing hands out each recomputed tensor only once
    *arguments, basis, rotation, rest, x, rstd, q, sums, outputs = ctx.saved_tensors
    if torch.is_grad_enabled():  # these gradients will be differentiated
        return *_differentiable_gradients(arguments, ctx.eps, ctx.needs_input_grad, grad), None, None
    f, weight, _, queries, values, key_shift, _ = arguments
    (num_queries, batch_size, length), num_heads = q.shape, len(values)
    grad, flat, flat_x = grad.contiguous(), f.flatten(0, 1), x.flatten(0, 1)

    d_sums = (grad @ (values @ basis)).view(num_queries, batch_size, x.shape[2]).transpose(0, 1)
    dq = torch.bmm(grad, values @ rest.T).view_as(q)
    dq.transpose(0, 1).baddbmm_(d_sums, x.mT)
    d_square = q * dq
    sum_q_dq = (grad * outputs).sum(2).view(num_queries, batch_size, 1)
    ds = torch.addcmul(-sum_q_dq, dq, rstd, out=dq).mul_(q)
    dx = (ds.flatten(1).T @ (queries @ basis)).view_as(x)
    d_square = d_square.addcmul_(ds, (queries @ rest.T)[:, None]).sum(0).add_(torch.linalg.vecdot(dx, x))
    d_square.mul_(rstd).mul_(rstd).mul_(-0.5 / len(weight))
    scaled = x * (2 * d_square[..., None])

    df = None
    if ctx.needs_input_grad[0]:
        dx.add_(scaled).baddbmm_(q.permute(1, 2, 0), d_sums)
        df = (dx.flatten(0, 1) @ rotation).view_as(f)

    ds_places = ds.sum(1)  # (K, T)
    dv_places = torch.bmm(q.view(num_heads, -1, length).mT, grad)  # (H, T, v)
    d_queries = ds.flatten(1) @ flat_x @ basis.T + ds_places @ rest
    d_values = grad.mT @ sums @ basis.T + dv_places.mT @ rest
    d_constants = (
        ds_places.T @ queries
        + dv_places.transpose(0, 1).flatten(1) @ values.flatten(0, 1)
        + scaled.sum(0) @ basis.T
        + 2 * d_square.sum(0)[:, None] * rest
    )
    sums_f = torch.bmm(q.transpose(0, 1), f).transpose(0, 1).reshape(num_heads, -1, f.shape[2])
    d_weight = (
        queries.T @ (ds.flatten(1) @ flat)
        + values.flatten(0, 1).T @ (grad.mT @ sums_f).flatten(0, 1)
        + basis @ (scaled.flatten(0, 1).T @ flat)
        + 2 * rest.T @ (f * d_square[..., None]).sum(0)
    )
    d_weight -= d_weight.mean(0)
    d_constants -= d_constants.mean(1, keepdim=True)
    return df, d_weight, d_constants, d_queries, d_values, torch.zeros_like(key_shift), None, None


def _rotate(weight: Tensor, constants: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return Q ``(D, d)``, R ``(d, d)``, Qᵀ c ``(T, d)`` and r ``(T, D)``.

    They are few numbers, and the same for all samples: in float32, their error would add up where W f nearly cancels c.
    """
    weight = weight - weight.mean(0)
    constants = constants - constants.mean(1, keepdim=True)
    basis, rotation = torch.linalg.qr(weight)
    along = constants @ basis
    return basis, rotation, along, constants - along @ basis.T


def _differentiable(
    f: Tensor,
    weight: Tensor,
    constants: Tensor,
    queries: Tensor,
    values: Tensor,
    key_shift: Tensor,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Compute the same in differentiable operations, with places as wide as the model."""
    normalized = F.layer_norm(F.linear(f, weight) + constants, weight.shape[:1], eps=eps)
    scores = torch.einsum("kd,btd->kbt", queries, normalized)
    weights = (scores if bias is None else scores + bias).softmax(2)
    pooled = torch.einsum("kbt,btd->kbd", weights, normalized).reshape(len(values), -1, weight.shape[0])
    return pooled @ values.mT + 0 * key_shift.sum()


def _differentiable_gradients(
    arguments: list[Any], eps: float, needs: tuple[bool, ...], grad: Tensor
) -> list[Tensor | None]:
    """Compute differentiable gradients of the tensors that need them."""
    *tensors, bias = arguments
    inputs: list[Any] = [part.view_as(part) for part in tensors]  # one may have been computed from another
    wanted = [part for part, need in zip(inputs, needs, strict=False) if need]
    outputs = _differentiable(*[*inputs, bias, eps])
    found = iter(torch.autograd.grad(outputs, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needs[: len(inputs)]]
