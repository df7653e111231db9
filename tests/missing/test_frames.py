"""Frames are lost independently at the rate, and nested."""

import pytest
import torch
from draws import assert_binomial, masks, ones, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from modx.missing import drop_frames


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_frames_are_lost_independently_at_the_rate(rate):
    keep = drop_frames(ones(100, 201), rate, generator=seeded())
    lost = ~keep
    assert_binomial(int(lost.sum()), lost.numel(), rate)
    pairs = lost[:, :-1:2] & lost[:, 1::2]
    assert_binomial(int(pairs.sum()), pairs.numel(), rate**2)


def test_padding_does_not_count_towards_the_rate():
    mask = torch.arange(400).expand(100, 400) < 100
    lost = mask & ~drop_frames(mask, 0.3, generator=seeded())
    assert_binomial(int(lost.sum()), 100 * 100, 0.3)


@settings(max_examples=60, deadline=None)
@given(mask=masks(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_frames_lost_at_a_lower_rate_are_lost_at_a_higher_one(mask, rates, seed):
    low, high = sorted(rates)
    keep_low, keep_high = (drop_frames(mask, rate, generator=seeded(seed)) for rate in (low, high))
    assert not (keep_high & ~keep_low).any()
