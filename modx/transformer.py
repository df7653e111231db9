"""TransformerBlock and TransformerEncoder, with a cheaper path that computes only the first few rows."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._checks import check_layer, check_range, check_shapes
from ._folded import attend
from ._modalities import dtype_of, hide_part, reset_children
from ._plain import is_plain
from .experts import Experts


class TransformerBlock(nn.Module):
    """Pre-norm self-attention followed by a two-layer GELU network, each with a residual connection.

    Queries, keys and values each have a LayerNorm of their own.

    Args:
        dim: D, width of a token.
        num_heads: Number of attention heads.
        head_dim: Width of each head. The inner width is ``num_heads * head_dim``, 512 by default, whatever ``dim`` is.
        ffn_dim: Hidden units of the feed-forward network. Default: ``dim``, not the usual ``4 * dim``.
        dropout: Dropout probability of both branches, before they are added to their input.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        >>> block = TransformerBlock(16, num_heads=2, head_dim=8)
        >>> block(torch.randn(3, 10, 16)).shape, block(torch.randn(3, 10, 16), num_queries=4).shape
        (torch.Size([3, 10, 16]), torch.Size([3, 4, 16]))
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int = 8,
        head_dim: int = 64,
        ffn_dim: int | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        ffn_dim = dim if ffn_dim is None else ffn_dim
        check_layer(self, dtype, dim=dim, num_heads=num_heads, head_dim=head_dim, ffn_dim=ffn_dim)
        check_range(self, 0.0, 1.0, dropout=dropout)
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        inner_dim = num_heads * head_dim
        self.query_norm = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.key_norm = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.value_norm = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.query = nn.Linear(dim, inner_dim, bias=False, device=device, dtype=dtype)
        self.key = nn.Linear(dim, inner_dim, bias=False, device=device, dtype=dtype)
        self.value = nn.Linear(dim, inner_dim, bias=False, device=device, dtype=dtype)
        self.proj = nn.Linear(inner_dim, dim, device=device, dtype=dtype)
        self.ffn_norm = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.ffn = Experts(1, dim, ffn_dim, dim, device=device, dtype=dtype)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """Reinitialize all parameters, as the constructor does."""
        reset_children(self)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, num_queries: int | None = None) -> Tensor:
        """Let every token attend to all unmasked tokens of its sample.

        Args:
            x: Tokens, ``(B, T, D)``.
            mask: Bool ``(B, T)``, True where a token is real. Masked tokens are never read, so they may hold NaN, and
                their rows of the result are zeros. Default: all tokens are real.
            num_queries: Compute only the first ``num_queries`` rows: far cheaper, and equal to those rows of the full
                output up to rounding. Default: all rows.

        Returns:
            ``(B, T, D)``, or ``(B, num_queries, D)``.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A shape or dtype does not match, or ``num_queries`` is not in [1, T].
        """
        check_shapes(self, {"D": self.dim}, dtype_of(self), x=(x, "B T D"), mask=(mask, "bool B T?"))
        tokens = x = hide_part(x, mask)
        if num_queries is not None:
            check_range(self, 1, x.shape[1], num_queries=num_queries)
            x = x[:, :num_queries]
        absorbs = num_queries is not None and self._can_absorb()
        attention = self._attend_absorbed(x, tokens, mask) if absorbs else self._attend(x, tokens, mask)
        return hide_part(self._update(x, attention), None if mask is None else mask[:, : x.shape[1]])

    def _update(self, x: Tensor, attention: Tensor) -> Tensor:
        """Add the heads' outputs, then the feed-forward network, to the tokens that attended."""
        x = x + self.dropout(self.proj(attention))
        updated: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return updated

    def _attend(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        def split(y: Tensor) -> Tensor:
            heads: Tensor = y.unflatten(-1, (self.num_heads, self.head_dim))
            return heads.transpose(1, 2)

        query = split(self.query(self.query_norm(x)))
        key = split(self.key(self.key_norm(tokens)))
        value = split(self.value(self.value_norm(tokens)))
        return _masked_attention(query, key, value, mask).transpose(1, 2).flatten(2)

    def _can_absorb(self) -> bool:
        """Whether the layers of keys and values can be read instead of called."""
        return (
            all(is_plain(layer, nn.Linear) and layer.bias is None for layer in (self.key, self.value))
            and all(is_plain(norm, nn.LayerNorm) and norm.bias is not None for norm in (self.key_norm, self.value_norm))
            and self.key_norm.eps == self.value_norm.eps
        )

    def _attend_absorbed(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from a few queries x to all tokens without computing keys or values.

        Let x̂ be a normalized token before scale γ and shift β. A score is q·W_k(γ_k x̂ + β_k) = (γ_k W_kᵀ q)·x̂ plus an
        offset that all tokens share. The attention weights p sum to 1, so the output is W_v(γ_v Σ p x̂ + β_v).
        """
        heads = (self.num_heads, self.head_dim)
        normalized = F.layer_norm(tokens, tokens.shape[-1:], eps=self.key_norm.eps)
        query = self._query(x)
        absorbed = self._absorb(query).flatten(1, 2)
        shift = F.linear(self.key_norm.bias, self.key.weight)
        offset = torch.einsum("bqhd,hd->bhq", query, shift.unflatten(0, heads)).flatten(1)
        # plain matmuls: for so few queries, fused attention took three times as long on a CPU
        scores = torch.baddbmm(offset[..., None], absorbed, normalized.mT)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], torch.finfo(scores.dtype).min)
        pooled = (scores.softmax(-1) @ normalized).unflatten(1, (self.num_heads, x.shape[1]))
        pooled = pooled * self.value_norm.weight + self.value_norm.bias
        return torch.einsum("bhqc,hdc->bqhd", pooled, self.value.weight.unflatten(0, heads)).flatten(2)

    def _forward_folded(
        self, tokens: Tensor, frames: Tensor, weight: Tensor, constants: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Compute the rows of N tokens, the same for all samples, that are followed by narrow frames; see ``_folded``.

        Args:
            tokens: ``(N, D)``.
            frames, weight, constants, mask: Passed to ``_folded.attend``.
        """
        queries = self._absorb(self._query(tokens))
        values = (self.value.weight * self.value_norm.weight).unflatten(0, (self.num_heads, self.head_dim))
        with torch.autocast(frames.device.type, enabled=False):  # frames are narrow: half precision gains nothing
            attention = attend(
                frames.to(tokens.dtype),
                weight,
                constants,
                queries.to(tokens.dtype),
                values,
                self.key_norm.bias,
                mask,
                self.key_norm.eps,
            )
            attention = attention + F.linear(self.value_norm.bias, self.value.weight)
        return self._update(tokens, attention)

    def _query(self, x: Tensor) -> Tensor:
        """Return the scaled queries of tokens ``(..., T, D)``, ``(..., T, H, v)``."""
        query: Tensor = self.query(self.query_norm(x)) * self.head_dim**-0.5
        heads: Tensor = query.unflatten(-1, (self.num_heads, self.head_dim))
        return heads

    def _absorb(self, query: Tensor) -> Tensor:
        """Move the key weights into the queries, ``(..., H, T, D)``: they score normalized tokens without keys."""
        key = (self.key.weight * self.key_norm.weight).unflatten(0, (self.num_heads, self.head_dim))
        absorbed: Tensor = torch.einsum("...qhd,hdc->...hqc", query, key)
        return absorbed

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, head_dim={self.head_dim}"


class TransformerEncoder(nn.Module):
    """A stack of :class:`TransformerBlock` (eq. 16 of DERL, Li et al.).

    Args:
        dim: D, width of a token.
        depth: Number of blocks.
        num_heads, head_dim, ffn_dim, dropout: Passed to every :class:`TransformerBlock`.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        >>> TransformerEncoder(16, depth=2, num_heads=2, head_dim=8)(torch.randn(3, 10, 16)).shape
        torch.Size([3, 10, 16])
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        *,
        num_heads: int = 8,
        head_dim: int = 64,
        ffn_dim: int | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_range(self, 1, depth=depth)
        self.dim = dim
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim,
                num_heads=num_heads,
                head_dim=head_dim,
                ffn_dim=ffn_dim,
                dropout=dropout,
                device=device,
                dtype=dtype,
            )
            for _ in range(depth)
        )

    def reset_parameters(self) -> None:
        """Reinitialize all parameters, as the constructor does."""
        reset_children(self)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, num_queries: int | None = None) -> Tensor:
        """Run the blocks in order. Arguments, result and errors are those of :meth:`TransformerBlock.forward`."""
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            x = block(x, mask, num_queries=num_queries if last else None)
        return x

    def extra_repr(self) -> str:
        return f"{self.dim}, depth={len(self.blocks)}"


def _masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend to unmasked tokens; in a fully masked sample to all, because a softmax over none would give NaN."""
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value)
    shown = (mask | ~mask.any(-1, keepdim=True))[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=shown)
