"""Each modality may draw from a generator of its own."""

from functools import partial
from itertools import permutations

import pytest
import torch
from draws import WITHIN, generators, modality_masks, ones, same, seeded
from torch import Tensor

from modx.missing import (
    PATTERNS,
    drop,
    drop_block,
    drop_bursts,
    drop_frames,
    drop_modalities,
    drop_together,
    keep_modalities,
    unequal_rates,
)


def by_hand(pattern: str, masks: dict[str, Tensor], own: dict[str, torch.Generator], shared: torch.Generator):
    if pattern == "modalities":
        return drop_modalities(masks, 0.4, generator=shared)
    if pattern == "together":
        return drop_together(masks, 0.4, generator=shared)
    if pattern == "unequal":
        rates = unequal_rates(masks, 0.4, generator=shared)
        return {name: drop_frames(mask, rates[name], generator=own[name]) for name, mask in masks.items()}
    function = {"frames": drop_frames, "bursts": partial(drop_bursts, mean_length=5), "block": drop_block}[pattern]
    return {name: function(mask, 0.4, generator=own[name]) for name, mask in masks.items()}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_name_is_the_function_with_each_modality_s_generator(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    keep = drop(masks, 0.4, pattern, **generators(*masks))
    assert same(keep, by_hand(pattern, masks, *generators(*masks).values()))


@pytest.mark.parametrize("pattern", [*WITHIN, "+".join(WITHIN)])
def test_what_is_dropped_of_a_modality_does_not_depend_on_the_others(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    together = drop(masks, 0.4, pattern, **generators(*masks))
    backwards = drop(dict(reversed(masks.items())), 0.4, pattern, **generators(*masks))
    for name, mask in masks.items():
        alone = drop({name: mask}, 0.4, pattern, **generators(*masks))[name]
        assert torch.equal(together[name], alone)
        assert torch.equal(backwards[name], alone)


def test_only_the_generators_that_a_pattern_draws_from_are_needed():
    masks = modality_masks()
    own = {name: seeded() for name in masks}
    for pattern in ("modalities", "together", "modalities+together"):
        first, again = (drop(masks, 0.5, pattern, shared_generator=seeded()) for _ in range(2))
        assert same(first, again)
    for pattern in WITHIN:
        drop(masks, 0.5, pattern, generator=own)
    for pattern in (*PATTERNS, "modalities+block"):
        for some in ({}, {"text": seeded()}):
            message = r"a generator for each of \('audio', 'text', 'vision'\), got \(.*\); add the others"
            with pytest.raises(ValueError, match=message):
                drop(masks, 0.5, pattern, generator=some, shared_generator=seeded())
    for pattern in ("modalities", "together", "unequal", "frames+block"):
        with pytest.raises(ValueError, match=r"expected shared_generator for .*, got None; pass a torch\.Generator"):
            drop(masks, 0.5, pattern, generator=own)


@pytest.mark.parametrize("pattern", [*PATTERNS, "frames+modalities"])
def test_the_shared_generator_is_the_one_generator_unless_another_is_given(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    one, other = (drop(masks, 0.4, pattern, generator=seeded(), shared_generator=g) for g in (None, seeded(9)))
    assert same(one, drop(masks, 0.4, pattern, generator=seeded()))
    assert same(one, other) == (pattern in WITHIN)


# a rate per modality


@pytest.mark.parametrize("pattern", [*WITHIN, "frames+block"])
def test_a_rate_per_modality_is_that_modality_alone_at_its_rate(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    rates = {"vision": 0.9, "text": 0.2, "audio": torch.linspace(0, 1, 60)}
    keep = drop(masks, rates, pattern, **generators(*masks))
    assert list(keep) == list(masks)
    for name, mask in masks.items():
        assert torch.equal(keep[name], drop({name: mask}, rates[name], pattern, **generators(*masks))[name])
    assert same(
        drop(masks, dict.fromkeys(masks, 0.4), pattern, **generators(*masks)),
        drop(masks, 0.4, pattern, **generators(*masks)),
    )


@pytest.mark.parametrize("names", [("text", "audio"), ("text", "audio", "vision", "heart"), ()])
def test_a_rate_for_other_modalities_than_the_masks_is_refused(names):
    message = r"expected a rate for each of \('audio', 'text', 'vision'\), got \(.*\); pass"
    with pytest.raises(ValueError, match=message):
        drop(modality_masks(), dict.fromkeys(names, 0.5))


def test_a_wrong_rate_of_a_modality_is_named():
    with pytest.raises(ValueError, match=r"drop expected rate\['audio'\] in \[0, 1\], got 30\.0; .*not a percentage"):
        drop(modality_masks(), {"text": 0.5, "audio": 30, "vision": 0})


@pytest.mark.parametrize("pattern", ["modalities", "together", "unequal", "frames+unequal"])
def test_a_pattern_across_modalities_has_one_rate(pattern):
    across = pattern.split("+")[-1]
    with pytest.raises(ValueError, match=f"expected one rate for pattern '{across}', which drops across modalities"):
        drop(modality_masks(), {"text": 0.5, "audio": 0.5, "vision": 0.5}, pattern)


# order


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


@pytest.mark.parametrize("pattern", [*PATTERNS, "frames+modalities+unequal"])
def test_another_order_gives_the_draws_of_one_modality_to_another(pattern):
    names = ("text", "audio", "vision")
    masks = {name: ones(60, 20) for name in names}
    keep = drop(masks, 0.4, pattern, generator=seeded(), order=names)
    as_sorted = drop({name: ones(60, 20) for name in "abc"}, 0.4, pattern, generator=seeded())
    assert list(keep) == list(masks)
    for name, letter in zip(names, "abc", strict=True):
        assert torch.equal(keep[name], as_sorted[letter])
    told, untold = (drop(masks, 0.4, pattern, generator=seeded(), order=order) for order in (sorted(names), None))
    assert same(told, untold)


@pytest.mark.parametrize("function", [drop_modalities, unequal_rates])
def test_so_does_it_in_a_function_across_modalities(function):
    names = ("text", "audio", "vision")
    keep = function({name: ones(60, 20) for name in names}, 0.4, generator=seeded(), order=names)
    as_sorted = function({name: ones(60, 20) for name in "abc"}, 0.4, generator=seeded())
    assert all(torch.equal(keep[name], as_sorted[letter]) for name, letter in zip(names, "abc", strict=True))


# None


@pytest.mark.parametrize("pattern", [*PATTERNS, "frames+modalities"])
def test_a_mask_that_is_none_is_a_modality_left_out(pattern):
    masks = modality_masks(60, lengths=(30, 20, 10))
    holes = masks | {"audio": None}
    rest = {name: mask for name, mask in holes.items() if mask is not None}
    assert same(drop(holes, 0.4, pattern, generator=seeded()), drop(rest, 0.4, pattern, generator=seeded()))
    names = ("vision", "audio", "text")
    assert same(
        drop(holes, 0.4, pattern, generator=seeded(), order=names),
        drop(rest, 0.4, pattern, generator=seeded(), order=("vision", "text")),
    )


@pytest.mark.parametrize("function", [drop_modalities, drop_together, unequal_rates])
def test_functions_across_modalities_leave_out_none(function):
    masks = modality_masks(60, lengths=(30, 20, 10))
    rest = {name: masks[name] for name in ("text", "vision")}
    assert same(function(rest | {"audio": None}, 0.4, generator=seeded()), function(rest, 0.4, generator=seeded()))


def test_a_rate_per_modality_and_the_available_modalities_may_name_one_that_is_none():
    masks = modality_masks(60, lengths=(30, 20, 10)) | {"audio": None}
    keep = drop(masks, {"text": 0.0, "audio": 0.5, "vision": 1.0})
    assert torch.equal(keep["text"], masks["text"])
    assert not keep["vision"].any()
    assert "audio" not in keep
    assert list(keep_modalities(masks, ["audio", "text"])) == ["text", "vision"]


def test_masks_that_are_all_none_are_refused():
    with pytest.raises(ValueError, match="masks of at least one modality"):
        drop({"text": None}, 0.5)
