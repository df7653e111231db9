"""One call of the op as the kernels take it: cast, contiguous, and its sizes in one place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from ..chip import Chip, find_chip
from ..forms import fits_fused
from .kernels.groups import MAX_GROUPS
from .spans import Span, cut

HIDDEN_BYTES = 64 * 2**20  # of a hidden layer that is in memory for a span of tokens; an eighth for least memory


def aligned(size: int) -> int:
    """The size that the kernels take for ``size``: a multiple of 16, for whole rows to be read 16 bytes at a time."""
    return -(-size // 16) * 16


def align(tensor: Tensor, dims: int) -> Tensor:
    """The tensor, contiguous, its last dimensions filled up with zeros, which add nothing to any sum."""
    missing = [aligned(size) - size for size in tensor.shape[-dims:]]
    if not any(missing):
        return tensor.contiguous()
    return F.pad(tensor, [side for size in reversed(missing) for side in (0, size)])


class Bank(NamedTuple):
    """Experts that some tokens go through, and where their gates, hidden units and outputs are."""

    experts: slice
    rows: slice
    gates: slice
    hidden: slice
    output: Tensor
    is_shared: bool


@dataclass(frozen=True)
class Call:
    """The op's tensors, contiguous and aligned, and their sizes.

    Tokens and weights are in the dtype that is computed in, biases and gates in their own.
    """

    x: Tensor
    gates: Tensor | None
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    group_sizes: Sequence[int]
    num_private: int
    num_shared: int
    activation: str
    exact: bool  # float32 must not go through tf32
    weight_dtype: torch.dtype  # in which the weights' gradients are wanted

    @classmethod
    def prepare(
        cls,
        x: Tensor,
        gates: Tensor | None,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        group_sizes: Sequence[int],
        num_private: int,
        num_shared: int,
        activation: str,
        dtype: torch.dtype,
        exact: bool,
    ) -> "Call":
        return cls(
            align(x.to(dtype), 1),
            None if gates is None else gates.contiguous(),
            align(w1.to(dtype), 2),
            align(b1, 1),
            align(w2.to(dtype), 2),
            align(b2, 1),
            group_sizes if num_private else [x.shape[0]],  # without private experts all tokens are one group
            num_private,
            num_shared,
            activation,
            exact,
            torch.promote_types(w1.dtype, b1.dtype),
        )

    @property
    def experts_per_token(self) -> int:
        return self.num_private + self.num_shared

    @property
    def first_shared(self) -> int:
        return self.w1.shape[0] - self.num_shared

    @property
    def hidden_dim(self) -> int:
        return self.w1.shape[1]

    @property
    def in_dim(self) -> int:
        return self.x.shape[1]

    @property
    def out_dim(self) -> int:
        return self.w2.shape[2]

    @property
    def chip(self) -> Chip:
        return find_chip(self.x.device)

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What every kernel is compiled for."""
        return {
            "P": self.num_private,
            "S": self.num_shared,
            "D_IN": self.in_dim,
            "H": self.hidden_dim,
            "ACTIVATION": self.activation,
            "EXACT": self.x.dtype == torch.float32,
            "PRECISION": "ieee" if self.exact else "tf32",
        }

    @property
    def blocks(self) -> dict[str, int]:
        """Widths of a fused tile."""
        return {
            "BLOCK_I": max(16, triton.next_power_of_2(self.in_dim)),
            "BLOCK_O": max(16, triton.next_power_of_2(self.out_dim)),
        }

    @property
    def fits_fused(self) -> bool:
        sizes = self.in_dim, self.out_dim, self.num_private, self.num_shared
        return fits_fused(*sizes, self.x.element_size(), self.exact)

    @property
    def width(self) -> int:
        """The wider side of a fused tile."""
        return max(self.blocks.values())

    def new_outputs(self) -> tuple[Tensor, Tensor]:
        """Room for both outputs; a sum over no experts is zeros."""
        shape = self.x.shape[0], self.out_dim
        private = self.x.new_empty(shape) if self.num_private else self.x.new_zeros(shape)
        return private, self.x.new_empty(shape) if self.num_shared else self.x.new_zeros(shape)

    def cut(self, max_tokens: int | None = None) -> list[Span]:
        """Spans that one launch can take."""
        return cut(self.group_sizes, max_tokens)

    def cut_hidden(self, copies: int, least_memory: bool) -> list[Span]:
        """Spans of which so many copies of the hidden layer may be in memory."""
        bytes_per_token = copies * self.experts_per_token * self.hidden_dim * self.x.element_size()
        limit = max((HIDDEN_BYTES >> 3 * least_memory) // bytes_per_token, 1)
        count = triton.cdiv(self.x.shape[0], limit)  # spans of about one size: the last is not to be a small one
        return self.cut(min(limit, aligned(triton.cdiv(self.x.shape[0], count))) if count else None)

    def banks(self, span: Span, private: Tensor, shared: Tensor) -> Iterator[Bank]:
        """The span's work bank by bank, with what lies at its output: the private bank of every group, the shared."""
        split = self.num_private * self.hidden_dim
        own, common = span.of(private), span.of(shared)
        if self.num_private:
            for group, rows in span.parts():
                experts = slice(group * self.num_private, (group + 1) * self.num_private)
                yield Bank(experts, rows, slice(0, self.num_private), slice(0, split), own[rows], False)
        if self.num_shared:
            experts = slice(self.first_shared, None)
            yield Bank(experts, slice(None), slice(self.num_private, None), slice(split, None), common, True)

    def numbers(self, span: Span) -> dict[str, int]:
        """The span's groups and experts, for a launch."""
        ends = [*span.ends, *[span.ends[-1]] * (MAX_GROUPS - len(span.ends))]
        return {f"end{index}": end for index, end in enumerate(ends)} | {
            "NUM_GROUPS": len(span.ends),
            "first_private": span.first_group * self.num_private,
            "first_shared": self.first_shared,
        }


def count_tiles(span: Span, block_t: int) -> int:
    return sum(triton.cdiv(rows.stop - rows.start, block_t) for _, rows in span.parts())
