"""Parts of ALMT that LNLN shares: tokens that sum up a sequence, and a hyper-modality that the dominant one guides."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modx import TransformerEncoder


class Positions(nn.Module):
    """Prepend learned tokens, if there are any, and add learned positions."""

    def __init__(self, length: int, dim: int, *, num_tokens: int = 0) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(num_tokens, dim)) if num_tokens else None
        self.positions = nn.Parameter(torch.empty(num_tokens + length, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.positions)
        if self.tokens is not None:
            nn.init.zeros_(self.tokens)

    def forward(self, x: Tensor) -> Tensor:
        if self.tokens is not None:
            x = torch.cat([self.tokens.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        return x + self.positions[: x.shape[1]]


class TokenEncoder(nn.Module):
    """Encode a sequence by a transformer, and return the rows of its learned tokens; all rows if it has none."""

    def __init__(
        self, length: int, *, dim: int, depth: int, num_heads: int, head_dim: int, num_tokens: int = 0
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.positions = Positions(length, dim, num_tokens=num_tokens)
        self.transformer = TransformerEncoder(dim, depth, num_heads=num_heads, head_dim=head_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            mask = torch.cat([mask.new_ones(mask.shape[0], self.num_tokens), mask], dim=1)
        encoded: Tensor = self.transformer(self.positions(x), mask, num_queries=self.num_tokens or None)
        return encoded

    def layers(self, x: Tensor) -> list[Tensor]:
        """Return the input with its positions, and what every block makes of it."""
        found = [self.positions(x)]
        for block in self.transformer.blocks:
            found.append(block(found[-1]))
        return found


class HyperLayer(nn.Module):
    """Add to the hyper-modality what the dominant one finds in each of the others."""

    def __init__(self, others: list[str], dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.hyper_norm, self.query_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in others})
        self.query = nn.Linear(dim, dim, bias=False)
        self.keys = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in others})
        self.values = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in others})
        self.proj = nn.Linear(dim, dim)

    def forward(self, hyper: Tensor, dominant: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        query, found = self.query(self.query_norm(dominant)), []
        for name, norm in self.norms.items():
            x = norm(others[name])
            found.append(attend(query, self.keys[name](x), self.values[name](x), self.num_heads))
        shift: Tensor = self.proj(torch.stack(found).sum(0))
        return self.hyper_norm(hyper) + shift


class CrossBlock(nn.Module):
    """A transformer block whose keys and values come from another sequence."""

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        width = num_heads * head_dim
        self.query_norm, self.key_norm, self.value_norm, self.ffn_norm = (nn.LayerNorm(dim) for _ in range(4))
        self.query, self.key, self.value = (nn.Linear(dim, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        query = self.query(self.query_norm(x))
        key, value = self.key(self.key_norm(source)), self.value(self.value_norm(source))
        x = x + self.proj(attend(query, key, value, self.num_heads))
        return x + self.ffn(self.ffn_norm(x))


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Scaled dot-product attention of projected rows ``(B, T, W)``."""
    split = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
