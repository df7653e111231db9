"""Patterns by name: each loses at its rate, mixtures choose evenly, and each modality may have its own generator."""

import math

import pytest
import torch
from draws import assert_binomial, mappings, modality_masks, ones, runs, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from modx.missing import (
    INDEPENDENT_PATTERNS,
    PATTERNS,
    drop,
    drop_block,
    drop_bursts,
    drop_frames,
    drop_modalities,
    drop_together,
    parse_pattern,
    unequal_rates,
)

MIXTURES = ("frames+modalities", "bursts+together+unequal", "+".join(PATTERNS))
every_pattern = pytest.mark.parametrize("pattern", (*PATTERNS, *MIXTURES))
every_independent_pattern = pytest.mark.parametrize("pattern", INDEPENDENT_PATTERNS)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def generators(*names: str, seed: int = 0) -> dict[str, torch.Generator]:
    return {name: seeded(seed + number) for number, name in enumerate(("", *names))}


def test_the_names_are_known_and_ordered():
    assert PATTERNS == ("frames", "bursts", "block", "modalities", "together", "unequal")
    assert INDEPENDENT_PATTERNS == ("frames", "bursts", "block")


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
def test_rate_zero_keeps_all_and_rate_one_loses_all_but_one_modality_at_most(pattern, masks, seed):
    assert same(drop(masks, 0.0, pattern, generator=seeded(seed)), masks)
    kept = torch.stack([mask.any(1) for mask in drop(masks, 1.0, pattern, generator=seeded(seed)).values()], 1)
    assert (kept.sum(1) <= ("modalities" in pattern)).all()


@every_pattern
def test_each_sample_has_its_own_rate(pattern):
    masks = modality_masks(3, lengths=(400, 300, 200))
    keep = drop(masks, torch.tensor([0.0, 0.5, 1.0]), pattern, generator=seeded())
    lost = sum((~kept).sum(1) for kept in keep.values())
    assert lost[0] == 0
    assert lost[1] < 900
    assert lost[2] >= 500


@pytest.mark.parametrize("pattern", [name for name in (*PATTERNS, "frames+modalities") if "bursts" not in name])
@settings(max_examples=60, deadline=None)
@given(masks=mappings(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_what_is_lost_at_a_lower_rate_is_lost_at_a_higher_one(pattern, masks, rates, seed):
    low, high = (drop(masks, rate, pattern, generator=seeded(seed)) for rate in sorted(rates))
    assert not any((high[name] & ~low[name]).any() for name in masks)


@every_pattern
def test_the_generator_decides_alone(pattern):
    masks = modality_masks(40, lengths=(30, 20, 10))
    first = drop(masks, 0.5, pattern, generator=seeded(3))
    torch.manual_seed(1)
    assert same(drop(masks, 0.5, pattern, generator=seeded(3)), first)
    assert not same(drop(masks, 0.5, pattern, generator=seeded(4)), first)
    again = [drop(masks, 0.5, pattern, generator=generators(*masks)) for _ in range(2)]
    assert same(*again)
    torch.manual_seed(7)
    without = drop(masks, 0.5, pattern)
    torch.manual_seed(7)
    assert same(drop(masks, 0.5, pattern), without)


@every_pattern
def test_wrong_masks_and_rates_are_refused(pattern):
    with pytest.raises(ValueError, match="drop expected masks of at least one modality, got none"):
        drop({}, 0.5, pattern)
    with pytest.raises(ValueError, match=r"one batch size, got \{'a': 2, 'b': 3\}; give every modality all samples"):
        drop({"a": ones(2, 3), "b": ones(3, 3)}, 0.5, pattern)
    with pytest.raises(ValueError, match=r"drop expected masks\['b'\] to be bool of shape \(B, T\)"):
        drop({"a": ones(2, 3), "b": torch.ones(2, 3)}, 0.5, pattern)
    for rate in (-0.01, 30, math.nan):
        with pytest.raises(ValueError, match=rf"drop expected rate in \[0, 1\], got {rate:.4g}; .*not a percentage"):
            drop(modality_masks(), rate, pattern)
    with pytest.raises(ValueError, match=r"\(B,\) = \(3,\), got shape \(2,\); pass one"):
        drop(modality_masks(), torch.zeros(2), pattern)


# rates


def probability(pattern: str, rate: float, k: int, n: int, modalities: int) -> float:
    """The chance that the k-th of n elements is lost, in closed form."""
    if pattern == "block":
        size = round(rate * n)
        starts = n - size + 1
        return sum(start <= k < start + size for start in range(starts)) / starts
    if pattern == "modalities":  # one is kept where all would be lost
        return rate - rate**modalities / modalities
    if pattern == "together":
        time = (k + 0.5) / n
        return (min(time, 1 - rate) - max(time - rate, 0)) / (1 - rate)
    return rate


@every_pattern
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_elements_are_lost_with_the_probability_of_the_pattern(pattern, rate):
    lengths = (7, 3, 1)
    keep = drop(modality_masks(8_000, lengths=lengths), rate, pattern, generator=seeded())
    parts = pattern.split("+")
    for n, kept in zip(lengths, keep.values(), strict=True):
        for k in {0, n // 2, n - 1}:
            expected = math.fsum(probability(part, rate, k, n, 3) for part in parts) / len(parts)
            assert_binomial(int((~kept[:, k]).sum()), len(kept), expected)


@every_independent_pattern
@pytest.mark.parametrize("own", [False, True], ids=["one generator", "one for each"])
def test_losses_of_two_modalities_are_unrelated(pattern, own):
    masks = {"a": ones(10_000, 6), "b": ones(10_000, 6)}
    keep = drop(masks, 0.5, pattern, generator=generators("a", "b") if own else seeded())
    for k in (0, 3):
        both = ~keep["a"][:, k] & ~keep["b"][:, k]
        chance = [float(probability(pattern, 0.5, k, 6, 2)) for _ in masks]
        assert_binomial(int(both.sum()), len(both), math.prod(chance))


def test_together_loses_the_same_time_in_all_modalities():
    keep = drop({"a": ones(500, 20), "b": ones(500, 20)}, 0.4, "together", generator=generators("a", "b"))
    assert torch.equal(keep["a"], keep["b"])
    assert (~keep["a"]).any()


def test_bursts_last_five_elements_or_as_long_as_the_rate_needs():
    rates, lengths = torch.tensor([0.02, 0.3, 0.83, 0.9, 1.0], dtype=torch.float64), (5.0, 5.0, 5.0, 9.0, 5.0)
    masks = {"a": ones(5, 50_000)}
    lost = ~drop(masks, rates, "bursts", generator=seeded())["a"]
    expected = ~drop_bursts(masks["a"], rates, mean_length=torch.tensor(lengths), generator=seeded())
    assert torch.equal(lost, expected)
    assert lost[4].all()
    for row, length in zip(lost[:4], lengths, strict=False):
        bursts = runs(row)
        standard_error = math.sqrt(length * (length - 1) / len(bursts))
        assert abs(sum(bursts) / len(bursts) - length) < 4 * standard_error


def test_a_rate_next_to_one_has_a_chain():
    for rate in (1 - 1e-7, math.nextafter(1, 0)):
        assert not drop({"a": ones(3, 50)}, rate, "bursts", generator=seeded())["a"].any()


# mixtures


def classify(lost: list[list[bool]]) -> str:
    """Recognise the pattern that a sample of three long modalities lost half of its elements by."""
    shares = sorted(sum(row) / len(row) for row in lost)
    lengths = [runs(torch.tensor(row)) for row in lost]
    if all(share in (0, 1) for share in shares):
        return "modalities"
    if shares[0] == 0 and shares[2] == 1:
        return "unequal"
    if all(len(row) == 1 for row in lengths):
        return "together" if lost[0] == lost[1] == lost[2] else "block"
    return "frames" if sum(len(row) for row in lengths) > 3 * 70 else "bursts"  # 100 and 40 runs a modality


def test_a_mixture_chooses_evenly():
    masks = modality_masks(1_200, lengths=(400, 400, 400))
    keep = drop(masks, 0.5, "+".join(PATTERNS), generator=seeded())
    found = [classify(sample) for sample in (~torch.stack(list(keep.values()), 1)).tolist()]
    counts = [found.count(name) for name in PATTERNS]
    assert sum(counts) == len(found)
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_recognised(pattern):
    keep = drop(modality_masks(200, lengths=(400, 400, 400)), 0.5, pattern, generator=seeded())
    assert {classify(sample) for sample in (~torch.stack(list(keep.values()), 1)).tolist()} == {pattern}


def test_every_sample_of_a_mixture_loses_by_one_pattern():
    keep = drop(modality_masks(500), 1.0, "frames+modalities", generator=seeded())
    kept = torch.stack([mask.any(1) for mask in keep.values()], 1).sum(1)
    assert set(kept.tolist()) == {0, 1}
    assert_binomial(int(kept.sum()), len(kept), 0.5)


# generators


BY_HAND = {
    "frames": lambda masks, g: {name: drop_frames(masks[name], 0.4, generator=g[name]) for name in masks},
    "bursts": lambda masks, g: {
        name: drop_bursts(masks[name], 0.4, mean_length=5, generator=g[name]) for name in masks
    },
    "block": lambda masks, g: {name: drop_block(masks[name], 0.4, generator=g[name]) for name in masks},
    "modalities": lambda masks, g: drop_modalities(masks, 0.4, generator=g[""]),
    "together": lambda masks, g: drop_together(masks, 0.4, generator=g[""]),
    "unequal": lambda masks, g: (
        lambda rates: {name: drop_frames(masks[name], rates[name], generator=g[name]) for name in masks}
    )(unequal_rates(masks, 0.4, generator=g[""])),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_name_is_the_function_with_each_modality_s_generator(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    keep = drop(masks, 0.4, pattern, generator=generators(*masks))
    assert same(keep, BY_HAND[pattern](masks, generators(*masks)))


@pytest.mark.parametrize("pattern", [*INDEPENDENT_PATTERNS, "+".join(INDEPENDENT_PATTERNS)])
def test_what_a_modality_loses_does_not_depend_on_the_others(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    together = drop(masks, 0.4, pattern, generator=generators(*masks))
    backwards = drop(dict(reversed(masks.items())), 0.4, pattern, generator=generators(*masks))
    for name, mask in masks.items():
        alone = drop({name: mask}, 0.4, pattern, generator=generators(*masks))[name]
        assert torch.equal(together[name], alone)
        assert torch.equal(backwards[name], alone)


def test_only_the_generators_that_a_pattern_draws_from_are_needed():
    masks = modality_masks()
    joint, own = {"": seeded()}, {name: seeded() for name in masks}
    for pattern in ("modalities", "together", "modalities+together"):
        drop(masks, 0.5, pattern, generator=joint)
    for pattern in INDEPENDENT_PATTERNS:
        drop(masks, 0.5, pattern, generator=own)
    for pattern in (*INDEPENDENT_PATTERNS, "unequal", "modalities+block"):
        with pytest.raises(ValueError, match=r"under 'text', for modality 'text', got only \(''.*\); add it"):
            drop(masks, 0.5, pattern, generator=joint)
    for pattern in ("modalities", "together", "unequal", "frames+block"):
        with pytest.raises(ValueError, match=r"under '', for what modalities have in common, got only \('text', "):
            drop(masks, 0.5, pattern, generator=own)


# parse_pattern


def test_a_pattern_is_split_at_its_plus_signs():
    assert parse_pattern("block") == ("block",)
    assert parse_pattern("unequal+frames") == ("unequal", "frames")


@pytest.mark.parametrize("read", [parse_pattern, lambda pattern: drop(modality_masks(), 0.5, pattern)])
def test_a_pattern_that_is_not_one_is_refused(read):
    for unknown in ("frame", "Frames", "frames + block", "frames,block"):
        with pytest.raises(
            ValueError, match=r"expected names out of \('frames', .*\), got 'f?.*' in .*; check the spell"
        ):
            read(unknown)
    for empty in ("", "+", "frames+", "+frames", "frames++block"):
        with pytest.raises(ValueError, match=r"name on each side of every plus sign, got '.*'; name one or more of \("):
            read(empty)
    with pytest.raises(
        ValueError, match=r"every name once, got 'block' again in 'block\+frames\+block'; leave the sec"
    ):
        read("block+frames+block")
