"""Dropped elements are overwritten without a trace."""

import math

import pytest
import torch
from draws import masks, ones, seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modx.missing import drop_frames, erase


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dropped_features_become_positive_zeros_and_kept_ones_stay_bit_for_bit(dtype):
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


def test_no_gradient_reaches_dropped_features():
    keep = torch.tensor([[True, False]])
    values = torch.tensor([[[2.0], [math.nan]]], requires_grad=True)
    erase(values, keep).square().sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [4.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_dropped_token_ids_become_unknown_but_special_ones_stay(dtype):
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
    with pytest.raises(ValueError, match="erase expected unk_token_id for token ids, got None; pass the tokenizer"):
        erase(torch.zeros(2, 3, dtype=torch.long), ones(2, 3))


@pytest.mark.parametrize("values", [torch.zeros(2, 4, 5), torch.zeros(2, 4, dtype=torch.long)], ids=["features", "ids"])
def test_a_keep_mask_of_another_shape_is_refused(values):
    with pytest.raises(ValueError, match=r"erase expected keep of shape \(B=2, T=4\), got \(2, 3\)"):
        erase(values, ones(2, 3), unk_token_id=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(2, 3), r"of shape \(B, T, D\), got \(2, 3\)"),
        (torch.zeros(2, 3, 4, dtype=torch.long), r"of shape \(B, T\), got \(2, 3, 4\)"),
        (ones(2, 3), r"to hold integers, got torch\.bool"),
        (torch.zeros(2, 3, dtype=torch.complex64), r"to hold integers, got torch\.complex64"),
    ],
    ids=["2-d floats", "3-d ids", "bools", "complex"],
)
def test_values_of_another_kind_are_refused(values, message):
    with pytest.raises(ValueError, match="erase expected values " + message):
        erase(values, ones(2, 3), unk_token_id=1)
    with pytest.raises(ValueError, match=r"erase expected keep to be bool, got torch\.float32"):
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
