"""Within one modality: what all functions have in common, then frames one by one and the block."""

import math

import numpy as np
import pytest
import torch
from draws import assert_binomial, masks, ones, runs, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modx.missing import drop_block, drop_bursts, drop_frames

DROPS = {
    "frames": drop_frames,
    "bursts": lambda mask, rate, *, generator=None: drop_bursts(mask, rate, mean_length=50.0, generator=generator),
    "block": drop_block,
}
every_drop = pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)


@every_drop
@settings(max_examples=60, deadline=None)
@given(mask=masks(), rate=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_keep_is_a_subset_of_the_mask_and_the_mask_is_left_alone(drop, mask, rate, seed):
    before = mask.clone()
    keep = drop(mask, rate, generator=seeded(seed))
    assert keep.dtype == torch.bool
    assert keep.shape == mask.shape
    assert not (keep & ~mask).any()
    assert torch.equal(mask, before)


@every_drop
@settings(max_examples=30, deadline=None)
@given(mask=masks(), seed=st.integers(0, 99))
def test_rate_zero_keeps_and_rate_one_drops_every_real_frame(drop, mask, seed):
    assert torch.equal(drop(mask, 0.0, generator=seeded(seed)), mask)
    assert not drop(mask, 1.0, generator=seeded(seed)).any()


@every_drop
def test_the_generator_decides_alone(drop):
    mask = ones(8, 40)
    first = drop(mask, 0.5, generator=seeded(3))
    torch.manual_seed(1)
    assert torch.equal(drop(mask, 0.5, generator=seeded(3)), first)
    assert not torch.equal(drop(mask, 0.5, generator=seeded(4)), first)
    generator = seeded(3)
    drop(mask, 0.5, generator=generator)
    assert not torch.equal(drop(mask, 0.5, generator=generator), first)


@every_drop
def test_without_a_generator_the_global_seed_decides(drop):
    mask = ones(8, 40)
    torch.manual_seed(7)
    first = drop(mask, 0.5)
    torch.manual_seed(7)
    assert torch.equal(drop(mask, 0.5), first)


@every_drop
def test_each_sample_has_its_own_rate(drop):
    mask = ones(3, 400)
    keep = drop(mask, torch.tensor([0.0, 0.5, 1.0]), generator=seeded())
    dropped = (~keep).sum(1)
    assert dropped[0] == 0
    assert 0 < dropped[1] < 400
    assert dropped[2] == 400


@every_drop
@pytest.mark.parametrize("rate", [-0.01, 1.5, math.nan])
def test_a_rate_out_of_range_is_refused(drop, rate):
    name = drop.__name__ if drop is not DROPS["bursts"] else "drop_bursts"
    with pytest.raises(ValueError, match=rf"{name} expected rate in \[0, 1\], got {rate}; .*not a percentage"):
        drop(ones(2, 3), rate)
    with pytest.raises(ValueError, match=r"expected rate in \[0, 1\]"):
        drop(ones(2, 3), torch.tensor([0.5, rate]))


@every_drop
def test_rates_may_be_an_array_or_a_list(drop):
    rates = [0.25, 0.75]
    expected = drop(ones(2, 30), torch.tensor(rates), generator=seeded())
    for same in (rates, np.array(rates)):
        assert torch.equal(drop(ones(2, 30), same, generator=seeded()), expected)


@every_drop
def test_a_rate_of_another_shape_is_refused(drop):
    with pytest.raises(ValueError, match=r"expected rate of shape \(B=2,\), got \(3,\)"):
        drop(ones(2, 3), torch.full((3,), 0.5))
    with pytest.raises(ValueError, match=r"expected rate of shape \(B=2,\), got \(2, 1\)"):
        drop(ones(2, 3), torch.full((2, 1), 0.5))


@every_drop
@pytest.mark.parametrize("mask", [torch.ones(2, 3), ones(3), ones(2, 3, 1)], ids=["float", "1-d", "3-d"])
def test_a_mask_that_is_not_bool_and_two_dimensional_is_refused(drop, mask):
    with pytest.raises(ValueError, match=r"expected mask (to be bool, got .*; convert it|of shape \(B, T\), got)"):
        drop(mask, 0.5)


# frames


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_frames_are_dropped_independently_at_the_rate(rate):
    keep = drop_frames(ones(100, 201), rate, generator=seeded())
    dropped = ~keep
    assert_binomial(int(dropped.sum()), dropped.numel(), rate)
    pairs = dropped[:, :-1:2] & dropped[:, 1::2]
    assert_binomial(int(pairs.sum()), pairs.numel(), rate**2)


def test_padding_does_not_count_towards_the_rate():
    mask = torch.arange(400).expand(100, 400) < 100
    dropped = mask & ~drop_frames(mask, 0.3, generator=seeded())
    assert_binomial(int(dropped.sum()), 100 * 100, 0.3)


@settings(max_examples=60, deadline=None)
@given(mask=masks(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_frames_dropped_at_a_lower_rate_are_dropped_at_a_higher_one(mask, rates, seed):
    low, high = sorted(rates)
    keep_low, keep_high = (drop_frames(mask, rate, generator=seeded(seed)) for rate in (low, high))
    assert not (keep_high & ~keep_low).any()


# block


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
    dropped = (mask & ~drop_block(mask, rate, generator=seeded())).sum(1)
    assert dropped.tolist() == [round(rate * n) for n in lengths.tolist()]


def test_a_block_starts_anywhere_with_equal_chance():
    mask = ones(14_000, 12)
    mask[:, [0, 4, 5, 11]] = False
    dropped = ~drop_block(mask, 0.25, generator=seeded())[:, mask[0]]  # 2 of 8 frames: 7 places
    starts = dropped.int().argmax(1)
    assert stats.chisquare(torch.bincount(starts, minlength=7).numpy()).pvalue > 1e-4
