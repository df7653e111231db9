"""Losses follow their distributions, spare padding, and are written into values without a trace of what was lost."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from modx.missing import drop_block, drop_bursts, drop_frames, drop_modalities, erase, keep_modalities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def runs(states: Tensor) -> list[int]:
    """Lengths of the True runs of one row, by a plain loop."""
    lengths, current = [], 0
    for state in [*states.tolist(), False]:
        if state:
            current += 1
        elif current:
            lengths.append(current)
            current = 0
    return lengths


def assert_binomial(count: int, trials: int, rate: float) -> None:
    assert stats.binomtest(count, trials, rate).pvalue > 1e-4


DROPS = {
    "frames": drop_frames,
    "bursts": lambda mask, rate, *, generator=None: drop_bursts(mask, rate, mean_length=50.0, generator=generator),
    "block": drop_block,
}
every_drop = pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    """Masks of any small shape, with gaps, rows without a real element, and no rows or columns at all."""
    rows, columns = draw(st.integers(0, 4)), draw(st.integers(0, 9))
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(bits, dtype=torch.bool).reshape(rows, columns)


# every drop


@every_drop
@settings(max_examples=60, deadline=None)
@given(mask=masks(), rate=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_keep_is_a_subset_of_the_mask_and_the_mask_is_left_alone(drop, mask, rate, seed):
    before = mask.clone()
    keep = drop(mask, rate, generator=seeded(seed))
    assert keep.dtype == torch.bool
    assert keep.shape == mask.shape
    assert not (keep & ~mask).any()
    assert torch.equal(mask, before)


@every_drop
@settings(max_examples=30, deadline=None)
@given(mask=masks(), seed=st.integers(0, 99))
def test_rate_zero_keeps_and_rate_one_loses_every_real_frame(drop, mask, seed):
    assert torch.equal(drop(mask, 0.0, generator=seeded(seed)), mask)
    assert not drop(mask, 1.0, generator=seeded(seed)).any()


@every_drop
def test_the_generator_decides_alone(drop):
    mask = ones(8, 40)
    first = drop(mask, 0.5, generator=seeded(3))
    torch.manual_seed(1)
    assert torch.equal(drop(mask, 0.5, generator=seeded(3)), first)
    assert not torch.equal(drop(mask, 0.5, generator=seeded(4)), first)
    generator = seeded(3)
    drop(mask, 0.5, generator=generator)
    assert not torch.equal(drop(mask, 0.5, generator=generator), first)


@every_drop
def test_without_a_generator_the_global_seed_decides(drop):
    mask = ones(8, 40)
    torch.manual_seed(7)
    first = drop(mask, 0.5)
    torch.manual_seed(7)
    assert torch.equal(drop(mask, 0.5), first)


@every_drop
def test_each_sample_has_its_own_rate(drop):
    mask = ones(3, 400)
    keep = drop(mask, torch.tensor([0.0, 0.5, 1.0]), generator=seeded())
    lost = (~keep).sum(1)
    assert lost[0] == 0
    assert 0 < lost[1] < 400
    assert lost[2] == 400


@every_drop
@pytest.mark.parametrize("rate", [-0.01, 1.5, math.nan])
def test_a_rate_out_of_range_is_refused(drop, rate):
    name = drop.__name__ if drop is not DROPS["bursts"] else "drop_bursts"
    with pytest.raises(ValueError, match=rf"{name} expected rate in \[0, 1\], got {rate:.4g}; .*not a percentage"):
        drop(ones(2, 3), rate)
    with pytest.raises(ValueError, match=r"expected rate in \[0, 1\]"):
        drop(ones(2, 3), torch.tensor([0.5, rate]))


@every_drop
def test_a_rate_of_another_shape_is_refused(drop):
    with pytest.raises(ValueError, match=r"rate to be a number or .* \(B,\) = \(2,\), got shape \(3,\); pass one"):
        drop(ones(2, 3), torch.full((3,), 0.5))
    with pytest.raises(ValueError, match=r"got shape \(2, 1\)"):
        drop(ones(2, 3), torch.full((2, 1), 0.5))


@every_drop
@pytest.mark.parametrize("mask", [torch.ones(2, 3), ones(3), ones(2, 3, 1)], ids=["float", "1-d", "3-d"])
def test_a_mask_that_is_not_bool_and_two_dimensional_is_refused(drop, mask):
    with pytest.raises(ValueError, match=r"expected mask to be bool of shape \(B, T\), got .*; compare it"):
        drop(mask, 0.5)


# drop_frames


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


# drop_bursts

CHAINS = [(0.1, 1.0), (0.5, 1.0), (0.5, 1.2), (0.3, 4.0), (0.7, 10.0), (0.75, 3.0), (0.02, 2.0)]


@pytest.mark.parametrize(("rate", "mean_length"), CHAINS)
def test_bursts_have_the_rate_and_the_mean_length(rate, mean_length):
    lost = ~drop_bursts(ones(1, 200_000), rate, mean_length=mean_length, generator=seeded())
    bursts, gaps = runs(lost[0]), runs(~lost[0])
    mean_gap = mean_length * (1 - rate) / rate
    for lengths, mean in ((bursts, mean_length), (gaps, mean_gap)):
        standard_error = math.sqrt(mean * (mean - 1) / len(lengths)) + 1e-4  # of a geometric length
        assert abs(sum(lengths) / len(lengths) - mean) < 4 * standard_error
    assert abs(lost.float().mean() - rate) < 0.02


@pytest.mark.parametrize(("rate", "mean_length"), [(0.5, 1.2), (0.3, 4.0)])
def test_burst_lengths_are_geometric(rate, mean_length):
    lost = ~drop_bursts(ones(1, 100_000), rate, mean_length=mean_length, generator=seeded())
    lengths = torch.tensor(runs(lost[0]))
    for length in (1, 2, 3):
        expected = float(stats.geom.pmf(length, 1 / mean_length))
        assert_binomial(int((lengths == length).sum()), len(lengths), expected)


@pytest.mark.parametrize(("rate", "mean_length"), CHAINS)
def test_bursts_are_stationary_from_the_first_real_frame(rate, mean_length):
    mask = ones(20_000, 7)
    mask[:, 0] = False
    lost = mask & ~drop_bursts(mask, rate, mean_length=mean_length, generator=seeded())
    assert not lost[:, 0].any()
    for column in lost[:, 1:].T:
        assert_binomial(int(column.sum()), len(column), rate)


def test_a_burst_goes_on_across_padding():
    mask = torch.arange(60_000)[None] % 3 == 0
    lost = mask & ~drop_bursts(mask, 0.3, mean_length=4.0, generator=seeded())
    bursts = runs(lost[mask])
    assert abs(sum(bursts) / len(bursts) - 4) < 0.3


def test_the_k_th_real_frame_fares_alike_wherever_padding_stands():
    left = torch.arange(50).expand(4, 50) >= 20
    keep_left, keep_right = (drop_bursts(mask, 0.4, mean_length=3, generator=seeded()) for mask in (left, left.flip(1)))
    assert torch.equal(keep_left[:, 20:], keep_right[:, :30])


def test_bursts_of_one_frame_never_touch():
    lost = ~drop_bursts(ones(50, 200), 0.4, mean_length=1, generator=seeded())
    assert not (lost[:, 1:] & lost[:, :-1]).any()


def test_mean_length_of_independent_loss_gives_independent_loss():
    lost = ~drop_bursts(ones(100, 201), 0.6, mean_length=1 / 0.4, generator=seeded())
    pairs = lost[:, :-1:2] & lost[:, 1::2]
    assert_binomial(int(pairs.sum()), pairs.numel(), 0.36)


@pytest.mark.parametrize("length", [1, 2, 7, 9, 99])
def test_the_boundary_of_the_feasible_rates_is_feasible(length):
    rate = length / (length + 1)
    for given_as in (rate, torch.tensor([rate, rate])):
        lost = ~drop_bursts(ones(2, 300), given_as, mean_length=length, generator=seeded())
        assert (lost[:, 1:] | lost[:, :-1]).all()  # a good frame is always followed by a bad one


def test_a_chain_that_does_not_exist_is_refused():
    message = (
        r"rate <= mean_length / \(mean_length \+ 1\) = 0\.75 .*mean_length=3, got 0\.8; .*mean_length to 4 or more"
    )
    with pytest.raises(ValueError, match=message):
        drop_bursts(ones(2, 3), torch.tensor([0.1, 0.8], dtype=torch.float64), mean_length=3)


@pytest.mark.parametrize("mean_length", [0.5, -1, math.inf, math.nan])
def test_a_burst_shorter_than_a_frame_or_endless_is_refused(mean_length):
    with pytest.raises(ValueError, match=r"drop_bursts expected mean_length .* at least 1, got"):
        drop_bursts(ones(2, 3), 0.1, mean_length=mean_length)


# drop_block


@settings(max_examples=100, deadline=None)
@given(mask=masks(), rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_block_is_contiguous_among_real_frames_and_of_the_rounded_length(mask, rate, seed):
    keep = drop_block(mask, rate, generator=seeded(seed))
    for row, kept in zip(mask, keep, strict=True):
        size = round(rate * int(row.sum()))
        assert runs(~kept[row]) == ([size] if size else [])


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.35, 0.5, 0.7, 0.9])
def test_a_block_rounds_halves_to_even_as_python_does(rate):
    lengths = torch.arange(200)
    mask = torch.arange(200) < lengths[:, None]
    lost = (mask & ~drop_block(mask, rate, generator=seeded())).sum(1)
    assert lost.tolist() == [round(rate * n) for n in lengths.tolist()]


def test_a_block_starts_anywhere_with_equal_chance():
    mask = ones(14_000, 12)
    mask[:, [0, 4, 5, 11]] = False
    lost = ~drop_block(mask, 0.25, generator=seeded())[:, mask[0]]  # 2 of 8 frames: 7 places
    starts = lost.int().argmax(1)
    assert stats.chisquare(torch.bincount(starts, minlength=7).numpy()).pvalue > 1e-4


# drop_modalities


def modality_masks(batch: int = 3) -> dict[str, Tensor]:
    return {"text": ones(batch, 3), "audio": ones(batch, 5), "vision": ones(batch, 1)}


def test_modalities_are_lost_whole_and_independently():
    keep = drop_modalities(modality_masks(20_000), 0.4, generator=seeded(), keep_one=False)
    assert list(keep) == ["text", "audio", "vision"]
    lost = torch.stack([~kept.any(1) for kept in keep.values()], 1)
    for kept in keep.values():
        assert torch.equal(kept.any(1), kept.all(1))
    for modality in lost.T:
        assert_binomial(int(modality.sum()), len(modality), 0.4)
    assert_binomial(int(lost.all(1).sum()), len(lost), 0.4**3)
    assert_binomial(int(lost[:, :2].all(1).sum()), len(lost), 0.4**2)


def test_keep_one_leaves_a_uniform_choice():
    keep = drop_modalities(modality_masks(9_000), 1.0, generator=seeded())
    kept = torch.stack([mask.any(1) for mask in keep.values()], 1)
    assert (kept.sum(1) == 1).all()
    assert stats.chisquare(kept.sum(0).numpy()).pvalue > 1e-4


def test_keep_one_changes_only_samples_that_would_lose_all():
    masks = modality_masks(500)
    with_one, without = (drop_modalities(masks, 0.6, generator=seeded(), keep_one=flag) for flag in (True, False))
    loses_all = ~torch.stack([mask.any(1) for mask in without.values()], 1).any(1)
    assert loses_all.any()
    for name in masks:
        assert torch.equal(with_one[name][~loses_all], without[name][~loses_all])
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
    with pytest.raises(ValueError, match="expected masks of at least one modality, got none"):
        drop({}, argument)
    with pytest.raises(ValueError, match=r"one batch size, got \{'a': 2, 'b': 3\}; give every modality all samples"):
        drop({"a": ones(2, 3), "b": ones(3, 3)}, argument)
    with pytest.raises(ValueError, match=r"expected masks\['b'\] to be bool of shape \(B, T\)"):
        drop({"a": ones(2, 3), "b": torch.ones(2, 3)}, argument)


def test_a_rate_of_modalities_is_validated():
    with pytest.raises(ValueError, match=r"drop_modalities expected rate in \[0, 1\], got 30"):
        drop_modalities(modality_masks(), 30)


# keep_modalities


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
    with pytest.raises(ValueError, match=r"out of \('text', 'audio', 'vision'\), got unknown \('video',\); check"):
        keep_modalities(modality_masks(), ("text", "video"))
    with pytest.raises(ValueError, match=r"got the string 'text'; pass \('text',\)"):
        keep_modalities(modality_masks(), "text")


# erase


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_lost_features_become_positive_zeros_and_kept_ones_stay_bit_for_bit(dtype):
    keep = drop_frames(ones(3, 7), 0.5, generator=seeded())
    values = torch.randn(3, 7, 4, generator=seeded(), dtype=torch.float64).to(dtype)
    values[keep] *= -0.0  # a kept negative zero keeps its sign
    poisoned = torch.where(keep[..., None], values, torch.tensor([math.nan, math.inf, -math.inf, -1.0], dtype=dtype))
    before = poisoned.clone()
    erased = erase(poisoned, keep)
    expected = values.clone()
    expected[~keep] = 0.0
    assert erased.dtype == dtype
    assert torch.equal(erased.view(torch.uint8), expected.view(torch.uint8))
    assert torch.equal(poisoned.view(torch.uint8), before.view(torch.uint8))


def test_no_gradient_reaches_lost_features():
    keep = torch.tensor([[True, False]])
    values = torch.tensor([[[2.0], [math.nan]]], requires_grad=True)
    erase(values, keep).square().sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [4.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_lost_token_ids_become_unknown_but_special_ones_stay(dtype):
    ids = torch.tensor([[101, 7, 8, 102, 0]], dtype=dtype)
    keep = torch.tensor([[False, True, False, False, False]])
    before = ids.clone()
    erased = erase(ids, keep, unk_token_id=100, special_token_ids=(101, 102, 0))
    assert erased.dtype == dtype
    assert erased.tolist() == [[101, 7, 100, 102, 0]]
    assert erase(ids, keep, unk_token_id=100).tolist() == [[100, 7, 100, 100, 100]]
    assert torch.equal(ids, before)


@settings(max_examples=60, deadline=None)
@given(mask=masks(), seed=st.integers(0, 99))
def test_erase_agrees_with_a_loop_over_tokens(mask, seed):
    ids = torch.randint(0, 6, mask.shape, generator=seeded(seed))
    erased = erase(ids, mask, unk_token_id=9, special_token_ids=[1, 4])
    flat = zip(ids.flatten().tolist(), mask.flatten().tolist(), strict=True)
    assert erased.flatten().tolist() == [token if kept or token in (1, 4) else 9 for token, kept in flat]
    assert torch.equal(erase(torch.ones(*mask.shape, 2), mask), mask[..., None].float().expand(*mask.shape, 2))


def test_token_ids_without_an_unknown_token_are_refused():
    with pytest.raises(ValueError, match="erase expected unk_token_id for integer token ids, got None; pass the id"):
        erase(torch.zeros(2, 3, dtype=torch.long), ones(2, 3))


@pytest.mark.parametrize("values", [torch.zeros(2, 4, 5), torch.zeros(2, 4, dtype=torch.long)], ids=["features", "ids"])
def test_a_keep_mask_of_another_shape_is_refused(values):
    with pytest.raises(ValueError, match=r"keep to have the \(B, T\) of values, \(2, 4\), got \(2, 3\); pass the keep"):
        erase(values, ones(2, 3), unk_token_id=1)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(2, 3),
        torch.zeros(2, 3, 4, dtype=torch.long),
        ones(2, 3),
        torch.zeros(2, 3, 4, dtype=torch.complex64),
    ],
    ids=["2-d floats", "3-d ids", "bools", "complex"],
)
def test_values_of_another_kind_are_refused(values):
    with pytest.raises(ValueError, match=r"floating \(B, T, D\) or integer token ids \(B, T\), got torch\."):
        erase(values, ones(2, 3), unk_token_id=1)
    with pytest.raises(ValueError, match=r"erase expected keep to be bool of shape \(B, T\)"):
        erase(torch.zeros(2, 3, 4), torch.ones(2, 3))


class Eraser(torch.nn.Module):
    def forward(self, features: Tensor, ids: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        return erase(features, keep), erase(ids, keep, unk_token_id=100, special_token_ids=(0, 1))


def eraser_inputs(batch: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    keep = drop_frames(ones(batch, tokens), 0.5, generator=seeded())
    return torch.randn(batch, tokens, 3), torch.randint(0, 5, (batch, tokens)), keep


def test_erase_compiles_as_one_graph():
    compiled = torch.compile(Eraser(), fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in ((2, 5), (3, 7)):
        inputs = eraser_inputs(*shape)
        for got, expected in zip(compiled(*inputs), Eraser()(*inputs), strict=True):
            assert torch.equal(got, expected)


def test_erase_exports_with_any_batch_and_length():
    dims = {0: torch.export.Dim("B"), 1: torch.export.Dim("T")}
    exported = torch.export.export(Eraser(), eraser_inputs(2, 5), dynamic_shapes=(dims, dims, dims)).module()
    inputs = eraser_inputs(4, 9)
    for got, expected in zip(exported(*inputs), Eraser()(*inputs), strict=True):
        assert torch.equal(got, expected)
