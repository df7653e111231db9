"""What the tests of missing data share."""

from typing import Any

import torch
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from modx.missing import PATTERNS

WITHIN = [name for name, pattern in PATTERNS.items() if not pattern.across]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def runs(states: Tensor) -> list[int]:
    """Lengths of the True runs of one row, by a plain loop."""
    lengths, current = [], 0
    for state in [*states.tolist(), False]:
        if state:
            current += 1
        elif current:
            lengths.append(current)
            current = 0
    return lengths


def assert_binomial(count: int, trials: int, rate: float) -> None:
    assert stats.binomtest(count, trials, rate).pvalue > 1e-4


@st.composite
def masks(draw: st.DrawFn, rows: int | None = None) -> Tensor:
    """Masks of any small shape, with gaps, rows without a real element, and no rows or columns at all."""
    rows, columns = draw(st.integers(0, 4)) if rows is None else rows, draw(st.integers(0, 9))
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(bits, dtype=torch.bool).reshape(rows, columns)


def modality_masks(batch: int = 3, lengths: tuple[int, int, int] = (3, 5, 1)) -> dict[str, Tensor]:
    return {name: ones(batch, length) for name, length in zip(("text", "audio", "vision"), lengths, strict=True)}


@st.composite
def mappings(draw: st.DrawFn) -> dict[str, Tensor]:
    """Masks of one to five modalities of a batch."""
    rows = draw(st.integers(0, 4))
    return {name: draw(masks(rows)) for name in "abcde"[: draw(st.integers(1, 5))]}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def generators(*names: str, seed: int = 0) -> dict[str, Any]:
    """A generator per modality and the shared one, as ``drop`` takes them."""
    own = {name: seeded(seed + number) for number, name in enumerate(names, 1)}
    return {"generator": own, "shared_generator": seeded(seed)}
