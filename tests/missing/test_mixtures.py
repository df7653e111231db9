"""A mixture is written with plus signs, and its patterns are chosen evenly."""

import re

import pytest
import torch
from draws import assert_binomial, modality_masks, runs, seeded
from scipy import stats

from modx.missing import PATTERNS, drop, parse_pattern


def classify(dropped: list[list[bool]]) -> str:
    """Recognize the pattern that dropped half of the elements of three long modalities."""
    shares = sorted(sum(row) / len(row) for row in dropped)
    lengths = [runs(torch.tensor(row)) for row in dropped]
    if all(share in (0, 1) for share in shares):
        return "modalities"
    if shares[0] == 0 and shares[2] == 1:
        return "unequal"
    if all(len(row) == 1 for row in lengths):
        return "together" if dropped[0] == dropped[1] == dropped[2] else "block"
    return "frames" if sum(len(row) for row in lengths) > 3 * 70 else "bursts"  # 100 and 40 runs a modality


def test_a_mixture_chooses_evenly():
    masks = modality_masks(1_200, lengths=(400, 400, 400))
    keep = drop(masks, 0.5, "+".join(PATTERNS), generator=seeded())
    found = [classify(sample) for sample in (~torch.stack(list(keep.values()), 1)).tolist()]
    counts = [found.count(name) for name in PATTERNS]
    assert sum(counts) == len(found)
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_recognized(pattern):
    keep = drop(modality_masks(200, lengths=(400, 400, 400)), 0.5, pattern, generator=seeded())
    assert {classify(sample) for sample in (~torch.stack(list(keep.values()), 1)).tolist()} == {pattern}


def test_every_sample_of_a_mixture_is_dropped_by_one_pattern():
    keep = drop(modality_masks(500), 1.0, "frames+modalities", generator=seeded())
    kept = torch.stack([mask.any(1) for mask in keep.values()], 1).sum(1)
    assert set(kept.tolist()) == {0, 1}
    assert_binomial(int(kept.sum()), len(kept), 0.5)


def test_a_pattern_is_split_at_its_plus_signs():
    assert parse_pattern("block") == ("block",)
    assert parse_pattern("unequal+frames") == ("unequal", "frames")


@pytest.mark.parametrize("read", [parse_pattern, lambda pattern: drop(modality_masks(), 0.5, pattern)])
def test_a_pattern_that_is_not_one_is_refused(read):
    named = r"parse_pattern expected pattern to be distinct names from \('frames', .*\), joined by plus signs"
    unknown = ("frame", "block+Frames", "frames + block")
    empty = ("", "+", "frames+", "+frames", "frames++block")
    for pattern in (*unknown, *empty, "block+frames+block"):
        with pytest.raises(ValueError, match=rf"{named}, got '{re.escape(pattern)}'; add your own"):
            read(pattern)
