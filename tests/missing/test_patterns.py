"""Every pattern by name drops at its rate, alone or in a mixture."""

import math

import pytest
import torch
from draws import WITHIN, assert_binomial, generators, mappings, modality_masks, ones, runs, same, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from modx.missing import BURST_LENGTH, PATTERNS, drop, drop_bursts

MIXTURES = ("frames+modalities", "bursts+together+unequal", "+".join(PATTERNS))
every_pattern = pytest.mark.parametrize("pattern", [*PATTERNS, *MIXTURES])
every_pattern_within = pytest.mark.parametrize("pattern", WITHIN)


def test_the_names_are_known_and_ordered():
    assert tuple(PATTERNS) == ("frames", "bursts", "block", "modalities", "together", "unequal")
    assert WITHIN == ["frames", "bursts", "block"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        PATTERNS["end"] = PATTERNS["frames"]


# every pattern


@every_pattern
@settings(max_examples=40, deadline=None)
@given(masks=mappings(), rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_keep_is_a_subset_of_the_masks_and_the_masks_are_left_alone(pattern, masks, rate, seed):
    before = {name: mask.clone() for name, mask in masks.items()}
    rates = torch.full((len(masks["a"]),), rate)
    rates_before = rates.clone()
    keep = drop(masks, rates, pattern, generator=seeded(seed))
    assert list(keep) == list(masks)
    for name, mask in masks.items():
        assert keep[name].dtype == torch.bool
        assert keep[name].shape == mask.shape
        assert not (keep[name] & ~mask).any()
    assert same(masks, before)
    assert torch.equal(rates, rates_before)


@every_pattern
@settings(max_examples=30, deadline=None)
@given(masks=mappings(), seed=st.integers(0, 99))
def test_rate_zero_keeps_all_and_rate_one_keeps_one_modality_at_most(pattern, masks, seed):
    assert same(drop(masks, 0.0, pattern, generator=seeded(seed)), masks)
    kept = torch.stack([mask.any(1) for mask in drop(masks, 1.0, pattern, generator=seeded(seed)).values()], 1)
    assert (kept.sum(1) <= ("modalities" in pattern)).all()


@every_pattern
def test_each_sample_has_its_own_rate(pattern):
    masks = modality_masks(3, lengths=(400, 300, 200))
    keep = drop(masks, torch.tensor([0.0, 0.5, 1.0]), pattern, generator=seeded())
    dropped = sum((~kept).sum(1) for kept in keep.values())
    assert dropped[0] == 0
    assert dropped[1] < 900
    assert dropped[2] >= 500


@pytest.mark.parametrize("pattern", [name for name in (*PATTERNS, "frames+modalities") if "bursts" not in name])
@settings(max_examples=60, deadline=None)
@given(masks=mappings(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_what_is_dropped_at_a_lower_rate_is_dropped_at_a_higher_one(pattern, masks, rates, seed):
    low, high = (drop(masks, rate, pattern, generator=seeded(seed)) for rate in sorted(rates))
    assert not any((high[name] & ~low[name]).any() for name in masks)


@every_pattern
def test_the_generator_decides_alone(pattern):
    masks = modality_masks(40, lengths=(30, 20, 10))
    first = drop(masks, 0.5, pattern, generator=seeded(3))
    torch.manual_seed(1)
    assert same(drop(masks, 0.5, pattern, generator=seeded(3)), first)
    assert not same(drop(masks, 0.5, pattern, generator=seeded(4)), first)
    again = [drop(masks, 0.5, pattern, **generators(*masks)) for _ in range(2)]
    assert same(*again)
    torch.manual_seed(7)
    without = drop(masks, 0.5, pattern)
    torch.manual_seed(7)
    assert same(drop(masks, 0.5, pattern), without)


@every_pattern
def test_wrong_masks_and_rates_are_refused(pattern):
    with pytest.raises(ValueError, match=r"drop expected masks of at least one modality, got \{\}"):
        drop({}, 0.5, pattern)
    with pytest.raises(ValueError, match=r"expected masks\['b'\] of shape \(B=2, T\), got \(3, 3\)"):
        drop({"a": ones(2, 3), "b": ones(3, 3)}, 0.5, pattern)
    with pytest.raises(ValueError, match=r"drop expected masks\['b'\] to be bool, got torch\.float32"):
        drop({"a": ones(2, 3), "b": torch.ones(2, 3)}, 0.5, pattern)
    for rate in (-0.01, 30, math.nan):
        with pytest.raises(ValueError, match=rf"drop expected rate in \[0, 1\], got {float(rate)}; .*not a percentage"):
            drop(modality_masks(), rate, pattern)
    with pytest.raises(ValueError, match=r"drop expected rate of shape \(B=3,\), got \(2,\)"):
        drop(modality_masks(), torch.zeros(2), pattern)


# rates


def probability(pattern: str, rate: float, k: int, n: int, modalities: int) -> float:
    """The chance that the k-th of n elements is dropped, in closed form."""
    if pattern == "block":
        size = round(rate * n)
        starts = n - size + 1
        return sum(start <= k < start + size for start in range(starts)) / starts
    if pattern == "modalities":  # one is kept where all would be dropped
        return rate - rate**modalities / modalities
    if pattern == "together":
        time = (k + 0.5) / n
        return (min(time, 1 - rate) - max(time - rate, 0)) / (1 - rate)
    return rate


@every_pattern
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_elements_are_dropped_with_the_probability_of_the_pattern(pattern, rate):
    lengths = (7, 3, 1)
    keep = drop(modality_masks(8_000, lengths=lengths), rate, pattern, generator=seeded())
    parts = pattern.split("+")
    for n, kept in zip(lengths, keep.values(), strict=True):
        for k in {0, n // 2, n - 1}:
            expected = math.fsum(probability(part, rate, k, n, 3) for part in parts) / len(parts)
            assert_binomial(int((~kept[:, k]).sum()), len(kept), expected)


@every_pattern_within
@pytest.mark.parametrize("own", [False, True], ids=["one generator", "one for each"])
def test_what_is_dropped_of_two_modalities_is_unrelated(pattern, own):
    masks = {"a": ones(10_000, 6), "b": ones(10_000, 6)}
    keep = drop(masks, 0.5, pattern, **generators("a", "b") if own else {"generator": seeded()})
    for k in (0, 3):
        both = ~keep["a"][:, k] & ~keep["b"][:, k]
        chance = [float(probability(pattern, 0.5, k, 6, 2)) for _ in masks]
        assert_binomial(int(both.sum()), len(both), math.prod(chance))


def test_together_drops_the_same_time_in_all_modalities():
    keep = drop({"a": ones(500, 20), "b": ones(500, 20)}, 0.4, "together", **generators("a", "b"))
    assert torch.equal(keep["a"], keep["b"])
    assert (~keep["a"]).any()


def test_bursts_last_five_elements_or_as_long_as_the_rate_needs():
    assert BURST_LENGTH == 5
    rates, lengths = torch.tensor([0.02, 0.3, 0.83, 0.9, 1.0], dtype=torch.float64), (5.0, 5.0, 5.0, 9.0, 5.0)
    masks = {"a": ones(5, 50_000)}
    dropped = ~drop(masks, rates, "bursts", generator=seeded())["a"]
    expected = ~drop_bursts(masks["a"], rates, mean_length=torch.tensor(lengths), generator=seeded())
    assert torch.equal(dropped, expected)
    assert dropped[4].all()
    for row, length in zip(dropped[:4], lengths, strict=False):
        bursts = runs(row)
        standard_error = math.sqrt(length * (length - 1) / len(bursts))
        assert abs(sum(bursts) / len(bursts) - length) < 4 * standard_error


def test_a_rate_next_to_one_has_a_chain():
    for rate in (1 - 1e-7, math.nextafter(1, 0)):
        assert not drop({"a": ones(3, 50)}, rate, "bursts", generator=seeded())["a"].any()
