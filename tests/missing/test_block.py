"""One contiguous block of the rounded length is lost anywhere."""

import pytest
import torch
from draws import masks, ones, runs, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modx.missing import drop_block


@settings(max_examples=100, deadline=None)
@given(mask=masks(), rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_block_is_contiguous_among_real_frames_and_of_the_rounded_length(mask, rate, seed):
    keep = drop_block(mask, rate, generator=seeded(seed))
    for row, kept in zip(mask, keep, strict=True):
        size = round(rate * int(row.sum()))
        assert runs(~kept[row]) == ([size] if size else [])


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.35, 0.5, 0.7, 0.9])
def test_a_block_rounds_halves_to_even_as_python_does(rate):
    lengths = torch.arange(200)
    mask = torch.arange(200) < lengths[:, None]
    lost = (mask & ~drop_block(mask, rate, generator=seeded())).sum(1)
    assert lost.tolist() == [round(rate * n) for n in lengths.tolist()]


def test_a_block_starts_anywhere_with_equal_chance():
    mask = ones(14_000, 12)
    mask[:, [0, 4, 5, 11]] = False
    lost = ~drop_block(mask, 0.25, generator=seeded())[:, mask[0]]  # 2 of 8 frames: 7 places
    starts = lost.int().argmax(1)
    assert stats.chisquare(torch.bincount(starts, minlength=7).numpy()).pvalue > 1e-4
