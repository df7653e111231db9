"""Split the tokens of all groups into spans, each small enough for one launch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from torch import Tensor

from .kernels.groups import MAX_GROUPS


class Span(NamedTuple):
    """Tokens ``start`` to ``stop``; group ``first_group + i`` ends before token ``ends[i]`` of the span."""

    start: int
    stop: int
    first_group: int
    ends: tuple[int, ...]

    @overload
    def of(self, tensor: Tensor) -> Tensor: ...
    @overload
    def of(self, tensor: Tensor | None) -> Tensor | None: ...
    def of(self, tensor: Tensor | None) -> Tensor | None:
        """Return the span's rows of a tensor."""
        return None if tensor is None else tensor[self.start : self.stop]

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Yield each group with tokens in the span, and its rows within the span."""
        start = 0
        for index, end in enumerate(self.ends):
            if end > start:
                yield self.first_group + index, slice(start, end)
            start = end


def split_tokens(group_sizes: Sequence[int], max_tokens: int | None = None, max_groups: int = MAX_GROUPS) -> list[Span]:
    """Split groups into non-empty spans of at most ``max_tokens`` tokens and ``max_groups`` groups.

    A large group is split over several spans.
    """
    spans: list[Span] = []
    start = first_group = 0
    ends: list[int] = []

    def close(next_group: int) -> None:
        nonlocal start, first_group, ends
        if ends and ends[-1]:
            spans.append(Span(start, start + ends[-1], first_group, tuple(ends)))
            start += ends[-1]
        first_group, ends = next_group, []

    for group, size in enumerate(group_sizes):
        if len(ends) == max_groups:
            close(group)
        while True:
            taken = ends[-1] if ends else 0
            room = size if max_tokens is None else min(size, max_tokens - taken)
            ends.append(taken + room)
            size -= room
            if not size:
                break
            close(group)
    close(len(group_sizes))
    return spans
