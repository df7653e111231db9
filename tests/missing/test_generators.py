"""Each modality may draw from a generator of its own."""

from functools import partial
from itertools import permutations

import pytest
import torch
from draws import generators, modality_masks, same, seeded
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
    unequal_rates,
)


def by_hand(pattern: str, masks: dict[str, Tensor], g: dict[str, torch.Generator]) -> dict[str, Tensor]:
    if pattern == "modalities":
        return drop_modalities(masks, 0.4, generator=g[""])
    if pattern == "together":
        return drop_together(masks, 0.4, generator=g[""])
    if pattern == "unequal":
        rates = unequal_rates(masks, 0.4, generator=g[""])
        return {name: drop_frames(mask, rates[name], generator=g[name]) for name, mask in masks.items()}
    function = {"frames": drop_frames, "bursts": partial(drop_bursts, mean_length=5), "block": drop_block}[pattern]
    return {name: function(mask, 0.4, generator=g[name]) for name, mask in masks.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_name_is_the_function_with_each_modality_s_generator(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    keep = drop(masks, 0.4, pattern, generator=generators(*masks))
    assert same(keep, by_hand(pattern, masks, generators(*masks)))


@pytest.mark.parametrize("pattern", [*INDEPENDENT_PATTERNS, "+".join(INDEPENDENT_PATTERNS)])
def test_what_is_dropped_of_a_modality_does_not_depend_on_the_others(pattern):
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
        with pytest.raises(ValueError, match=r"under 'audio', for modality 'audio', got only \(''.*\); add it"):
            drop(masks, 0.5, pattern, generator=joint)
    for pattern in ("modalities", "together", "unequal", "frames+block"):
        with pytest.raises(ValueError, match=r"under '', for what modalities have in common, got only \('text', "):
            drop(masks, 0.5, pattern, generator=own)


@pytest.mark.parametrize("pattern", [*PATTERNS, "frames+modalities+unequal"])
def test_the_order_of_the_masks_does_not_matter_and_is_kept(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    expected = drop(dict(sorted(masks.items())), 0.4, pattern, generator=seeded())
    for names in permutations(masks):
        keep = drop({name: masks[name] for name in names}, 0.4, pattern, generator=seeded())
        assert same(keep, {name: expected[name] for name in names})


@pytest.mark.parametrize("function", [drop_modalities, drop_together, unequal_rates])
def test_nor_does_it_matter_to_a_function_across_modalities(function):
    masks = modality_masks(60, lengths=(30, 20, 10))
    expected = function(dict(sorted(masks.items())), 0.7, generator=seeded())
    for names in permutations(masks):
        keep = function({name: masks[name] for name in names}, 0.7, generator=seeded())
        assert same(keep, {name: expected[name] for name in names})
