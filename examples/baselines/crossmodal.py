"""CrossmodalEncoder: the transformer of MulT, whose keys and values may come from another sequence."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.masked import hide


class CrossmodalEncoder(nn.Module):
    """Let a sequence attend to itself, or in every layer to one other sequence (MulT: Tsai et al., ACL 2019).

    Layers are pre-norm with one LayerNorm for queries, keys and values, and a ReLU network four times as wide. Inputs
    are scaled by the root of the width and get sinusoidal positions. Masked frames are not attended to, and their rows
    of the result are zeros; where nothing can be attended to, attention adds nothing. Unlike the public code, which
    hides later frames from earlier ones, every frame attends in both directions.

    Args:
        dim: D, width of a frame.
        depth: number of layers.
        num_heads: attention heads, a divisor of ``dim``.
        attention_dropout: of attention weights.
        input_dropout: of the inputs, after positions are added.
        dropout: of hidden units of the ReLU network, and of what each branch adds.
        positions: whether to add positions.

    Example:
        >>> encode = CrossmodalEncoder(8, 2, 2)
        >>> encode(torch.randn(3, 5, 8), source=torch.randn(3, 9, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        *,
        attention_dropout: float = 0.0,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.input_dropout = nn.Dropout(input_dropout)
        self.layers = nn.ModuleList(CrossmodalLayer(dim, num_heads, attention_dropout, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """Encode ``(B, T, D)``.

        Args:
            x: the sequence.
            mask: bool ``(B, T)``, True where a frame is real.
            source: the sequence that is attended to, ``(B, S, D)``. Default: ``x``, as each layer leaves it.
            source_mask: bool ``(B, S)``.
        """
        x = self._embed(x, mask)
        if source is not None:
            source = self._embed(source, source_mask)
        for layer in self.layers:
            x = layer(x, mask) if source is None else layer(x, source_mask, source)
        return hide(self.norm(x), mask)

    def _embed(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = hide(x, mask) * math.sqrt(x.shape[-1])
        x = x + sinusoids(x) if self.positions else x
        dropped: Tensor = self.input_dropout(x)
        return dropped


class CrossmodalLayer(nn.Module):
    """One layer of :class:`CrossmodalEncoder`."""

    def __init__(self, dim: int, num_heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, attention_dropout
        self.norm, self.ffn_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.ffn = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, source: Tensor | None = None) -> Tensor:
        """Attend from x to the unmasked frames of ``source`` (default: x)."""
        queries = self.norm(x)
        keys = queries if source is None else self.norm(source)
        parts = (self.query(queries), self.key(keys), self.value(keys))
        split = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        anything = None if mask is None else mask.any(1)[:, None, None]
        shown = None if mask is None else (mask[:, None, None] | ~anything[..., None])
        rate = self.attention_dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(*split, attn_mask=shown, dropout_p=rate)
        added = self.proj(found.transpose(1, 2).flatten(2))
        x = x + self.dropout(added if anything is None else torch.where(anything, added, 0))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


def sinusoids(x: Tensor) -> Tensor:
    """Return positions ``(T, D)`` for ``(B, T, D)``: sines, then cosines (Vaswani et al., 2017)."""
    length, dim = x.shape[1:]
    half = dim // 2
    steps = torch.arange(half, device=x.device) * (-math.log(10000) / max(half - 1, 1))
    angles = torch.arange(1, length + 1, device=x.device)[:, None] * steps.exp()
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim - 2 * half)).to(x.dtype)
