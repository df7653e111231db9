"""Modalities are dropped whole, by chance or by name."""

import pytest
import torch
from draws import assert_binomial, masks, modality_masks, ones, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modx.missing import drop_modalities, keep_modalities


def test_modalities_are_dropped_whole_and_independently():
    keep = drop_modalities(modality_masks(20_000), 0.4, generator=seeded(), keep_one=False)
    assert list(keep) == ["text", "audio", "vision"]
    dropped = torch.stack([~kept.any(1) for kept in keep.values()], 1)
    for kept in keep.values():
        assert torch.equal(kept.any(1), kept.all(1))
    for modality in dropped.T:
        assert_binomial(int(modality.sum()), len(modality), 0.4)
    assert_binomial(int(dropped.all(1).sum()), len(dropped), 0.4**3)
    assert_binomial(int(dropped[:, :2].all(1).sum()), len(dropped), 0.4**2)


def test_keep_one_leaves_a_uniform_choice():
    keep = drop_modalities(modality_masks(9_000), 1.0, generator=seeded())
    kept = torch.stack([mask.any(1) for mask in keep.values()], 1)
    assert (kept.sum(1) == 1).all()
    assert stats.chisquare(kept.sum(0).numpy()).pvalue > 1e-4


def test_keep_one_changes_only_samples_that_would_have_nothing_left():
    masks = modality_masks(500)
    with_one, without = (drop_modalities(masks, 0.6, generator=seeded(), keep_one=flag) for flag in (True, False))
    none_left = ~torch.stack([mask.any(1) for mask in without.values()], 1).any(1)
    assert none_left.any()
    for name in masks:
        assert torch.equal(with_one[name][~none_left], without[name][~none_left])
    assert torch.stack([mask.any(1) for mask in with_one.values()], 1).any(1).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 99))
def test_a_sample_keeps_something_real_whenever_it_has_something(data, rates, seed):
    first = data.draw(masks())
    second = data.draw(masks().filter(lambda mask: len(mask) == len(first)))
    both = {"a": first, "b": second}
    keep_low, keep_high = (drop_modalities(both, rate, generator=seeded(seed)) for rate in sorted(rates))
    for name, mask in both.items():
        assert not (keep_low[name] & ~mask).any()
        assert not (keep_high[name] & ~keep_low[name]).any()
    has, kept = (torch.stack([m["a"].any(1), m["b"].any(1)], 1).any(1) for m in (both, keep_high))
    assert torch.equal(has, kept)


def test_each_sample_has_its_own_rate_of_modalities():
    keep = drop_modalities(modality_masks(2), torch.tensor([0.0, 1.0]), keep_one=False)
    assert [mask.any(1).tolist() for mask in keep.values()] == [[True, False]] * 3


def test_modalities_are_reproducible_per_generator():
    masks = modality_masks(50)
    first, again, other = (drop_modalities(masks, 0.5, generator=seeded(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in masks)
    assert any(not torch.equal(first[name], other[name]) for name in masks)


@pytest.mark.parametrize("drop", [drop_modalities, keep_modalities], ids=["drop", "keep"])
def test_masks_that_do_not_belong_together_are_refused(drop):
    argument = 0.5 if drop is drop_modalities else ()
    with pytest.raises(ValueError, match=r"expected masks of at least one modality, got \{\}"):
        drop({}, argument)
    with pytest.raises(ValueError, match=r"expected masks\['b'\] of shape \(B=2, T\), got \(3, 3\)"):
        drop({"a": ones(2, 3), "b": ones(3, 3)}, argument)
    with pytest.raises(ValueError, match=r"expected masks\['b'\] to be bool, got torch\.float32"):
        drop({"a": ones(2, 3), "b": torch.ones(2, 3)}, argument)


def test_a_rate_of_modalities_is_validated():
    with pytest.raises(ValueError, match=r"drop_modalities expected rate in \[0, 1\], got 30"):
        drop_modalities(modality_masks(), 30)


def test_only_available_modalities_survive():
    masks = modality_masks()
    masks["text"][0, 1:] = False
    before = masks["text"].clone()
    keep = keep_modalities(masks, {"text", "vision"})
    assert list(keep) == ["text", "audio", "vision"]
    assert torch.equal(keep["text"], before)
    assert not keep["audio"].any()
    assert keep["vision"].all()
    keep["text"].zero_()
    assert torch.equal(masks["text"], before)
    assert not any(mask.any() for mask in keep_modalities(masks, ()).values())


def test_an_unknown_modality_is_refused():
    with pytest.raises(
        ValueError, match=r"names from \('text', 'audio', 'vision'\), got \('text', 'video'\); pass a list"
    ):
        keep_modalities(modality_masks(), ("text", "video"))
    with pytest.raises(ValueError, match=r"available to be a collection of names .*, got 'text'; pass a list"):
        keep_modalities(modality_masks(), "text")
