"""A mixture as the kernels take it: cast, contiguous, aligned, with its sizes in one place."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from ..activations import ACTIVATIONS
from ..dispatch import Arch, find_arch, fits_fused
from ..mixture import Mixture
from .kernels.groups import MAX_GROUPS
from .spans import Span, split_tokens

HIDDEN_BYTES = 64 * 2**20  # of the hidden layer in memory at a time; an eighth of it for the least memory


def aligned(size: int) -> int:
    """``size`` rounded up to a multiple of 16, so that the kernels read whole rows 16 bytes at a time."""
    return -(-size // 16) * 16


def align(tensor: Tensor, dims: int) -> Tensor:
    """The tensor, contiguous, its last dimensions padded with zeros, which add nothing to any sum."""
    missing = [aligned(size) - size for size in tensor.shape[-dims:]]
    if not any(missing):
        return tensor.contiguous()
    return F.pad(tensor, [side for size in reversed(missing) for side in (0, size)])


class Bank(NamedTuple):
    """Experts that some tokens go through, and where their router weights, hidden units and outputs are."""

    experts: slice
    rows: slice
    columns: slice
    hidden: slice
    output: Tensor
    is_shared: bool


@dataclass(frozen=True)
class Launch:
    """A mixture, contiguous and aligned, and what its kernels are launched with.

    Tokens and weights are in the dtype of the matmuls, biases and router weights in their own.
    """

    mixture: Mixture
    exact: bool  # float32 must not use tf32
    weight_dtype: torch.dtype  # of the weights' gradients

    @classmethod
    def prepare(cls, mixture: Mixture, dtype: torch.dtype, exact: bool) -> "Launch":
        x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation = mixture
        prepared = Mixture(
            align(x.to(dtype), 1),
            None if router_weights is None else router_weights.contiguous(),
            align(w1.to(dtype), 2),
            align(b1, 1),
            align(w2.to(dtype), 2),
            align(b2, 1),
            group_sizes if num_private else [x.shape[0]],  # without private experts all tokens are one group
            num_private,
            num_shared,
            activation,
        )
        return cls(prepared, exact, torch.promote_types(w1.dtype, b1.dtype))

    @property
    def num_tokens(self) -> int:
        return self.mixture.x.shape[0]

    @property
    def num_experts(self) -> int:
        return self.mixture.w1.shape[0]

    @property
    def in_dim(self) -> int:
        return self.mixture.x.shape[1]

    @property
    def hidden_dim(self) -> int:
        return self.mixture.w1.shape[1]

    @property
    def out_dim(self) -> int:
        return self.mixture.w2.shape[2]

    @property
    def hidden_size(self) -> int:
        """Hidden units per token, over all its experts."""
        return self.mixture.experts_per_token * self.hidden_dim

    @property
    def element_size(self) -> int:
        return self.mixture.x.element_size()

    @property
    def arch(self) -> Arch:
        return find_arch(self.mixture.x.device)

    @property
    def fits_fused(self) -> bool:
        return fits_fused(self.mixture, self.mixture.x.dtype, self.exact)

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What every kernel is compiled for."""
        return {
            "P": self.mixture.num_private,
            "S": self.mixture.num_shared,
            "D_IN": self.in_dim,
            "H": self.hidden_dim,
            "ACTIVATION": ACTIVATIONS[self.mixture.activation].kernel_word,
            "EXACT": self.mixture.x.dtype == torch.float32,
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
    def width(self) -> int:
        """The wider side of a fused tile."""
        return max(self.blocks.values())

    def new_outputs(self) -> tuple[Tensor, Tensor]:
        """Buffers for both outputs; a sum over no experts is zeros."""
        x, shape = self.mixture.x, (self.num_tokens, self.out_dim)
        return (
            x.new_empty(shape) if self.mixture.num_private else x.new_zeros(shape),
            x.new_empty(shape) if self.mixture.num_shared else x.new_zeros(shape),
        )

    def spans(self, max_tokens: int | None = None) -> list[Span]:
        """Spans of tokens that one launch can take."""
        return split_tokens(self.mixture.group_sizes, max_tokens)

    def hidden_spans(self, copies: int, least_memory: bool) -> list[Span]:
        """Spans whose hidden layer fits into memory ``copies`` times."""
        room = HIDDEN_BYTES // 8 if least_memory else HIDDEN_BYTES
        limit = max(room // (copies * self.hidden_size * self.element_size), 1)
        count = triton.cdiv(self.num_tokens, limit)  # spans of about one size, so that the last is not a small one
        return self.spans(min(limit, aligned(triton.cdiv(self.num_tokens, count))) if count else None)

    def banks(self, span: Span, private: Tensor, shared: Tensor) -> Iterator[Bank]:
        """The span's banks, each with its part of the outputs: every group's private experts, then the shared ones."""
        num_private, num_shared = self.mixture.num_private, self.mixture.num_shared
        split = num_private * self.hidden_dim
        own, common = span.of(private), span.of(shared)
        if num_private:
            for group, rows in span.parts():
                experts = slice(group * num_private, (group + 1) * num_private)
                yield Bank(experts, rows, slice(0, num_private), slice(0, split), own[rows], False)
        if num_shared:
            experts = slice(self.mixture.first_shared, None)
            yield Bank(experts, slice(None), slice(num_private, None), slice(split, None), common, True)

    def arguments(self, span: Span) -> dict[str, Any]:
        """What every kernel takes besides its tensors and its tile."""
        ends = [*span.ends, *[span.ends[-1]] * (MAX_GROUPS - len(span.ends))]
        return {
            **{f"end{index}": end for index, end in enumerate(ends)},
            "NUM_GROUPS": len(span.ends),
            "first_private": span.first_group * self.mixture.num_private,
            "first_shared": self.mixture.first_shared,
            **self.constants,
        }


def count_tiles(span: Span, block_t: int) -> int:
    return sum(triton.cdiv(rows.stop - rows.start, block_t) for _, rows in span.parts())
