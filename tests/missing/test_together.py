"""An outage takes the same stretch of relative time from every modality."""

import math
from fractions import Fraction

import pytest
import torch
from draws import assert_binomial, mappings, ones, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modx.missing import drop_together


@settings(max_examples=150, deadline=None)
@given(masks=mappings(), data=st.data(), seed=st.integers(0, 99))
def test_an_outage_agrees_with_a_loop_in_exact_fractions(masks, data, seed):
    batch = len(masks["a"])
    rates = data.draw(st.lists(st.floats(0, 1), min_size=batch, max_size=batch))
    before = {name: mask.clone() for name, mask in masks.items()}
    keep = drop_together(masks, torch.tensor(rates, dtype=torch.float64), generator=seeded(seed))
    uniform = torch.rand(batch, generator=seeded(seed)).tolist()
    assert list(keep) == list(masks)
    for name, mask in masks.items():
        assert torch.equal(mask, before[name])
        for row, real in enumerate(mask.tolist()):
            start = Fraction(uniform[row]) * (1 - Fraction(rates[row]))
            k, n, expected = 0, sum(real), []
            for is_real in real:
                dropped = start <= (k + Fraction(1, 2)) / max(n, 1) < start + Fraction(rates[row])
                expected.append(is_real and not dropped)
                k += is_real
            assert keep[name][row].tolist() == expected


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.35, 0.5, 0.9, 1.0])
def test_every_modality_drops_its_share_rounded_down_or_up(rate):
    masks = {f"{n}": ones(500, n) for n in (1, 2, 7, 50, 333)}
    for n, kept in zip((1, 2, 7, 50, 333), drop_together(masks, rate, generator=seeded()).values(), strict=True):
        share = Fraction(rate) * n
        assert set((~kept).sum(1).tolist()) <= {math.floor(share), math.ceil(share)}


def test_all_modalities_drop_the_same_relative_time():
    keep = drop_together({"coarse": ones(200, 10), "fine": ones(200, 1000)}, 0.3, generator=seeded())
    for coarse, fine in zip(~keep["coarse"], ~keep["fine"], strict=True):
        for edge in (0, -1):
            apart = (coarse.nonzero()[edge] + 0.5) / 10 - (fine.nonzero()[edge] + 0.5) / 1000
            assert abs(apart) <= 0.1 + 1e-6


def test_padding_is_stepped_over():
    masks = {"left": torch.arange(30).expand(50, 30) < 12, "spread": torch.arange(36).expand(50, 36) % 3 == 1}
    keep = drop_together(masks, 0.4, generator=seeded())
    left, spread = (keep[name][masks[name]].reshape(50, 12) for name in masks)
    assert torch.equal(left, spread)


def test_an_outage_starts_anywhere_with_equal_chance():
    dropped = ~drop_together({"a": ones(3_000, 2_000)}, 0.25, generator=seeded())["a"]
    starts = dropped.int().argmax(1) / 2_000
    assert stats.kstest(starts.numpy(), stats.uniform(0, 0.75).cdf).pvalue > 1e-4


@pytest.mark.parametrize(("n", "rate"), [(1, 0.3), (1, 0.7), (4, 0.3), (5, 0.6)])
def test_elements_are_dropped_with_the_probability_of_being_covered(n, rate):
    dropped = ~drop_together({"a": ones(20_000, n)}, rate, generator=seeded())["a"]
    for k, column in enumerate(dropped.T):
        time = (k + 0.5) / n
        covered = (min(time, 1 - rate) - max(time - rate, 0)) / (1 - rate)
        assert_binomial(int(column.sum()), len(column), covered)


def test_wrong_masks_and_rates_are_refused():
    with pytest.raises(ValueError, match=r"drop_together expected masks of at least one modality, got \{\}"):
        drop_together({}, 0.5)
    with pytest.raises(ValueError, match=r"expected masks\['b'\] of shape \(B=2, T\), got \(3, 3\)"):
        drop_together({"a": ones(2, 3), "b": ones(3, 3)}, 0.5)
    with pytest.raises(ValueError, match=r"drop_together expected rate in \[0, 1\], got 30\.0; .*not a percentage"):
        drop_together({"a": ones(2, 3)}, 30)
    with pytest.raises(ValueError, match=r"drop_together expected rate of shape \(B=2,\), got \(3,\)"):
        drop_together({"a": ones(2, 3)}, torch.zeros(3))
