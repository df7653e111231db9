"""Prepare a mixture for the kernels: cast, contiguous and aligned, with all sizes in one place."""

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

HIDDEN_BYTES = 64 * 2**20  # most bytes of the hidden layer in memory at a time; an eighth of it with least_memory


def aligned(size: int) -> int:
    """Round ``size`` up to a multiple of 16, so that the kernels can load rows 16 bytes at a time."""
    return -(-size // 16) * 16


def align(tensor: Tensor, dims: int) -> Tensor:
    """Make a tensor contiguous and pad its last ``dims`` dimensions with zeros, which add nothing to any sum."""
    missing = [aligned(size) - size for size in tensor.shape[-dims:]]
    if not any(missing):
        return tensor.contiguous()
    return F.pad(tensor, [side for size in reversed(missing) for side in (0, size)])


class Bank(NamedTuple):
    """Experts that some tokens run through, and the location of their router weights, hidden units and outputs."""

    experts: slice
    rows: slice
    columns: slice
    hidden: slice
    output: Tensor
    is_shared: bool


@dataclass(frozen=True)
class Launch:
    """A contiguous, aligned mixture and the arguments that its kernels share.

    Tokens and weights have the dtype of the matmuls. Biases and router weights keep their own dtypes.
    """

    mixture: Mixture
    exact: bool  # float32 must not use TF32
    weight_dtype: torch.dtype  # the dtype of the weights' gradients

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
            group_sizes if num_private else [x.shape[0]],  # without private experts, all tokens form one group
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
        """Hidden units per token, over all of its experts."""
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
        """Compile-time arguments of every kernel."""
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
        """Input and output widths of a fused tile."""
        return {
            "BLOCK_I": max(16, triton.next_power_of_2(self.in_dim)),
            "BLOCK_O": max(16, triton.next_power_of_2(self.out_dim)),
        }

    @property
    def width(self) -> int:
        """The larger width of a fused tile."""
        return max(self.blocks.values())

    def new_outputs(self) -> tuple[Tensor, Tensor]:
        """Allocate both outputs; a sum over no experts is zeros."""
        x, shape = self.mixture.x, (self.num_tokens, self.out_dim)
        return (
            x.new_empty(shape) if self.mixture.num_private else x.new_zeros(shape),
            x.new_empty(shape) if self.mixture.num_shared else x.new_zeros(shape),
        )

    def spans(self, max_tokens: int | None = None) -> list[Span]:
        """Split the tokens into spans, each small enough for one launch."""
        return split_tokens(self.mixture.group_sizes, max_tokens)

    def hidden_spans(self, copies: int, least_memory: bool) -> list[Span]:
        """Split the tokens into spans, such that ``copies`` of a span's hidden layer fit in ``HIDDEN_BYTES``."""
        room = HIDDEN_BYTES // 8 if least_memory else HIDDEN_BYTES
        limit = max(room // (copies * self.hidden_size * self.element_size), 1)
        count = triton.cdiv(self.num_tokens, limit)  # spans of similar sizes, rather than a small last one
        return self.spans(min(limit, aligned(triton.cdiv(self.num_tokens, count))) if count else None)

    def banks(self, span: Span, private: Tensor, shared: Tensor) -> Iterator[Bank]:
        """Yield a span's banks with their rows of the outputs: each group's private experts, then shared experts."""
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
        """Arguments of every kernel besides its tensors and its tile."""
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
