"""A mean rate is shared out as unequally as can be, in a random order."""

import itertools
import math

import pytest
import torch
from draws import mappings, ones, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modx.missing import unequal_rates


@settings(max_examples=150, deadline=None)
@given(masks=mappings(), data=st.data(), seed=st.integers(0, 99))
def test_rates_agree_with_a_loop_that_pours_the_budget(masks, data, seed):
    batch = len(masks["a"])
    means = data.draw(st.lists(st.floats(0, 1), min_size=batch, max_size=batch))
    rates = unequal_rates(masks, torch.tensor(means, dtype=torch.float64), generator=seeded(seed))
    uniform = torch.rand(batch, len(masks), generator=seeded(seed)).tolist()
    assert list(rates) == list(masks)
    assert all(rate.shape == (batch,) and rate.dtype == torch.float64 for rate in rates.values())
    for row, mean in enumerate(means):
        budget = mean * len(masks)
        for _, name in sorted(zip(uniform[row], masks, strict=True)):
            poured = min(budget, 1.0)
            budget -= poured
            assert rates[name][row] == pytest.approx(poured, abs=1e-12)
        assert math.fsum(rate[row] for rate in rates.values()) / len(masks) == pytest.approx(mean, abs=1e-15)


@settings(max_examples=100, deadline=None)
@given(masks=mappings(), means=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_no_rate_falls_as_the_mean_rises(masks, means, seed):
    low, high = (unequal_rates(masks, mean, generator=seeded(seed)) for mean in sorted(means))
    assert all((low[name] <= high[name]).all() for name in masks)


@pytest.mark.parametrize("modalities", [1, 3, 20])
def test_rate_zero_and_one_leave_no_choice(modalities):
    masks = {f"{m}": ones(6, 2) for m in range(modalities)}
    assert all((rate == 0).all() for rate in unequal_rates(masks, 0).values())
    assert all((rate == 1).all() for rate in unequal_rates(masks, 1).values())


def test_one_modality_has_the_rate_itself():
    means = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    assert torch.equal(unequal_rates({"a": ones(4, 2)}, means)["a"], means)


def test_every_order_is_equally_likely():
    rates = unequal_rates({name: ones(6_000, 1) for name in "abc"}, 0.5, generator=seeded())
    orders = list(zip(*(rate.tolist() for rate in rates.values()), strict=True))
    counts = [orders.count(order) for order in itertools.permutations((0.0, 0.5, 1.0))]
    assert sum(counts) == 6_000
    assert stats.chisquare(counts).pvalue > 1e-4


def test_wrong_masks_and_rates_are_refused():
    with pytest.raises(ValueError, match=r"unequal_rates expected masks of at least one modality, got \{\}"):
        unequal_rates({}, 0.5)
    with pytest.raises(ValueError, match=r"unequal_rates expected masks\['b'\] to be bool, got torch\.float32"):
        unequal_rates({"a": ones(2, 3), "b": torch.ones(2, 3)}, 0.5)
    with pytest.raises(ValueError, match=r"unequal_rates expected rate in \[0, 1\], got 1\.5"):
        unequal_rates({"a": ones(2, 3)}, 1.5)
