"""A pattern of one's own: passed as a function, or registered under a name."""

from functools import partial

import pytest
import torch
from draws import generators, mappings, modality_masks, ones, runs, same, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from modx.missing import (
    PATTERNS,
    drop,
    drop_block,
    drop_bursts,
    drop_frames,
    drop_together,
    parse_pattern,
    register_pattern,
)


def drop_end(mask, rate, *, generator=None):
    """Drop the last ``rate`` of the real frames."""
    left = ((1 - rate) * mask.sum(1)).round()
    return mask & (mask.cumsum(1) <= left[:, None])


def drop_pair(masks, rate, *, generator=None):
    """Drop the first two modalities of a sample whole, or none: a cable that carries both."""
    is_cut = torch.rand(len(rate), generator=generator) < rate
    return {name: mask & ~(is_cut[:, None] & (number < 2)) for number, (name, mask) in enumerate(masks.items())}


# as a function


def test_a_function_drops_in_each_modality_from_its_generator_at_its_rate():
    masks = modality_masks(60, lengths=(30, 20, 10))
    rates = {"text": 0.2, "audio": torch.linspace(0, 1, 60), "vision": 0.9}
    for name, function in {"frames": drop_frames, "block": drop_block}.items():
        for rate in (0.35, rates):
            keep = drop(masks, rate, function, **generators(*masks))
            assert same(keep, drop(masks, rate, name, **generators(*masks)))
            assert same(drop(masks, rate, function, generator=seeded()), drop(masks, rate, name, generator=seeded()))


def test_a_function_may_be_a_library_function_with_an_argument_set():
    dropped = ~drop({"a": ones(1, 50_000)}, 0.3, partial(drop_bursts, mean_length=20), generator=seeded())["a"]
    lengths = runs(dropped[0])
    assert 17 < sum(lengths) / len(lengths) < 23


# by a name


def test_a_registered_pattern_is_known_and_read():
    register_pattern("end", drop_end)
    register_pattern("cable", drop_pair, across=True)
    assert [*PATTERNS][6:] == ["end", "cable"]
    assert (PATTERNS["end"].across, PATTERNS["cable"].across) == (False, True)
    assert parse_pattern("frames+end") == ("frames", "end")


def test_a_registered_pattern_is_gone_after_the_test():
    assert "end" not in PATTERNS


def test_a_name_within_a_modality_is_the_function():
    register_pattern("end", drop_end)
    masks = modality_masks(4, lengths=(30, 20, 10))
    rate = torch.tensor([0.0, 0.5, 0.9, 1.0])
    expected = {name: drop_end(mask, rate) for name, mask in masks.items()}
    assert same(drop(masks, rate, "end"), expected)
    assert same(drop(masks, rate, drop_end), expected)
    assert drop(masks, {"text": 1, "audio": 0, "vision": 0.5}, "end")["vision"].sum(1).tolist() == [5] * 4


def test_a_name_across_modalities_is_the_function_with_the_shared_generator_and_sorted_masks():
    register_pattern("cable", drop_pair, across=True)
    masks = modality_masks(50)
    keep = drop(masks, 0.4, "cable", **generators(*masks))
    expected = drop_pair(dict(sorted(masks.items())), torch.full((50,), 0.4), generator=seeded())
    assert list(keep) == list(masks)
    assert all(torch.equal(keep[name], expected[name]) for name in masks)
    assert keep["vision"].all()
    assert not keep["text"].all()
    with pytest.raises(ValueError, match="expected one rate for pattern 'cable'"):
        drop(masks, dict.fromkeys(masks, 0.4), "cable")


def test_a_library_function_across_modalities_can_be_registered():
    register_pattern("again", drop_together, across=True)
    masks = modality_masks(20, lengths=(30, 20, 10))
    by_name = [drop(masks, 0.4, name, generator=seeded()) for name in ("again", "together")]
    assert same(*by_name)


def test_a_name_is_drawn_from_in_a_mixture():
    register_pattern("end", drop_end)
    masks = {"a": ones(4_000, 40), "b": ones(4_000, 40)}
    keep = drop(masks, 0.5, "frames+end", generator=seeded())
    at_the_end = torch.stack([(kept == (torch.arange(40) < 20)).all(1) for kept in keep.values()])
    assert torch.equal(at_the_end[0], at_the_end[1])
    assert 0.46 < at_the_end[0].float().mean() < 0.54


@settings(max_examples=40, deadline=None)
@given(masks=mappings(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_what_it_drops_at_a_lower_rate_it_drops_at_a_higher_one(masks, rates):
    low, high = (drop(masks, rate, drop_end) for rate in sorted(rates))
    assert not any((high[name] & ~low[name]).any() for name in masks)


@pytest.mark.parametrize("across", [False, True])
def test_what_it_does_to_its_arguments_stays_with_it(across):
    def careless(masks, rate, *, generator=None):
        for mask in masks.values() if across else [masks]:
            mask.zero_()
        rate.zero_()
        return masks

    register_pattern("careless", careless, across=across)
    masks, rate = modality_masks(), torch.full((3,), 0.5, dtype=torch.float64)
    keep = drop(masks, rate, "careless+block")
    assert not any(keep[name].all() for name in masks)
    assert all(mask.all() for mask in masks.values())
    assert (rate == 0.5).all()


# what is refused


@pytest.mark.parametrize("name", ["", "a+b", "+", " ", "two words", "end "])
def test_a_name_that_no_mixture_could_hold_is_refused(name):
    with pytest.raises(
        ValueError,
        match=r"register_pattern expected name to be a new name without spaces or plus signs, not one of .*, got '.*'",
    ):
        register_pattern(name, drop_end)
    assert name not in PATTERNS


def test_a_name_that_is_taken_is_refused():
    register_pattern("end", drop_end)
    for name in ("frames", "end"):
        before = PATTERNS[name]
        with pytest.raises(ValueError, match=rf"expected name to be .*, not one of \('frames', .*\), got '{name}'"):
            register_pattern(name, drop_block)
        assert PATTERNS[name] is before


WRONG = {
    "shape": (lambda mask: mask[:, :-1], r"for 'audio' of shape \(B=3, T=5\), got \(3, 4\)"),
    "rank": (lambda mask: mask[0], r"for 'audio' of shape \(B=3, T=5\), got \(5,\)"),
    "dtype": (lambda mask: mask.float(), "for 'audio' to be bool, got torch.float32"),
    "nothing": (lambda mask: None, "for 'audio' of type Tensor, got None"),
    "restored": (lambda mask: ~mask, "to keep no element outside the mask of 'audio', got 6; return keep & mask"),
}


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_keep_mask_that_is_none_is_refused_by_name(wrong, across):
    change, message = WRONG[wrong]

    def within(mask, rate, *, generator=None):
        return change(mask)

    def over_all(masks, rate, *, generator=None):
        return {name: change(mask) for name, mask in masks.items()}

    register_pattern("bad", over_all if across else within, across=across)
    masks = modality_masks()
    masks["audio"][:, 3:] = False  # padding
    for pattern in ("bad", "frames+bad", *(() if across else (within,))):
        name = "bad" if isinstance(pattern, str) else "within"
        error = TypeError if wrong == "nothing" else ValueError
        with pytest.raises(error, match=f"drop expected .*pattern '{name}' .*{message}"):
            drop(masks, 0.5, pattern)


@pytest.mark.parametrize(
    "returned", [None, {}, {"text": ones(3, 3)}, [ones(3, 3)]], ids=["None", "none", "one", "list"]
)
def test_keep_masks_of_other_modalities_are_refused_by_name(returned):
    register_pattern("bad", lambda masks, rate, *, generator=None: returned, across=True)
    message = r"pattern 'bad' to return a keep mask for each of \('audio', 'text', 'vision'\), got "
    with pytest.raises(ValueError, match=message):
        drop(modality_masks(), 0.5, "bad")
