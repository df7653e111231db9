"""What losses within one modality have in common: rates, padding, generators, errors."""

import math

import pytest
import torch
from draws import masks, ones, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_rate_zero_keeps_and_rate_one_loses_every_real_frame(drop, mask, seed):
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
    lost = (~keep).sum(1)
    assert lost[0] == 0
    assert 0 < lost[1] < 400
    assert lost[2] == 400


@every_drop
@pytest.mark.parametrize("rate", [-0.01, 1.5, math.nan])
def test_a_rate_out_of_range_is_refused(drop, rate):
    name = drop.__name__ if drop is not DROPS["bursts"] else "drop_bursts"
    with pytest.raises(ValueError, match=rf"{name} expected rate in \[0, 1\], got {rate:.4g}; .*not a percentage"):
        drop(ones(2, 3), rate)
    with pytest.raises(ValueError, match=r"expected rate in \[0, 1\]"):
        drop(ones(2, 3), torch.tensor([0.5, rate]))


@every_drop
def test_a_rate_of_another_shape_is_refused(drop):
    with pytest.raises(ValueError, match=r"rate to be a number or .* \(B,\) = \(2,\), got shape \(3,\); pass one"):
        drop(ones(2, 3), torch.full((3,), 0.5))
    with pytest.raises(ValueError, match=r"got shape \(2, 1\)"):
        drop(ones(2, 3), torch.full((2, 1), 0.5))


@every_drop
@pytest.mark.parametrize("mask", [torch.ones(2, 3), ones(3), ones(2, 3, 1)], ids=["float", "1-d", "3-d"])
def test_a_mask_that_is_not_bool_and_two_dimensional_is_refused(drop, mask):
    with pytest.raises(ValueError, match=r"expected mask to be bool of shape \(B, T\), got .*; compare it"):
        drop(mask, 0.5)
