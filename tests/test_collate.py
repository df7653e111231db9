"""collate: ragged samples with holes become a batch that the fusion takes as it is."""

import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import modx
from modx import MissingModalityFusion

SAMPLES = [
    {"vision": torch.randn(4, 3), "audio": torch.randn(2, 5)},
    {"audio": None, "vision": torch.randn(1, 3)},
    {"audio": torch.randn(5)},
    {"text": None, "vision": torch.zeros(0, 3)},
]


def test_pads_to_the_longest_and_marks_what_is_real():
    inputs, masks = modx.collate(SAMPLES)
    assert {name: tuple(part.shape) for name, part in inputs.items()} == {"audio": (4, 2, 5), "vision": (4, 4, 3)}
    assert {name: mask.sum(1).tolist() for name, mask in masks.items()} == {
        "audio": [2, 0, 1, 0],
        "vision": [4, 1, 0, 0],
    }
    assert all(mask.dtype == torch.bool for mask in masks.values())
    for row, sample in enumerate(SAMPLES):
        for name, part in inputs.items():
            frames = sample.get(name)
            given = part.new_zeros(0, part.shape[2]) if frames is None else frames.reshape(-1, part.shape[2])
            assert torch.equal(part[row][masks[name][row]], given)
            assert not part[row][~masks[name][row]].any()
            assert masks[name][row].tolist() == sorted(masks[name][row].tolist(), reverse=True)


def test_the_order_of_samples_names_changes_nothing():
    inputs, _ = modx.collate(SAMPLES)
    assert list(inputs) == list(modx.collate(SAMPLES[::-1])[0]) == ["audio", "vision"]


def test_the_fusion_takes_the_batch_and_answers_as_for_each_sample_alone():
    fusion = MissingModalityFusion({"audio": 5, "vision": 3}, 8, num_tokens=2, max_lengths={"audio": 6, "vision": 6})
    fusion.eval()
    together = fusion(*modx.collate(SAMPLES)).features
    for row, sample in enumerate(SAMPLES[:3]):
        torch.testing.assert_close(fusion(*modx.collate([sample])).features[0], together[row])


def test_a_modality_that_all_samples_have_empty_is_absent():
    inputs, masks = modx.collate([{"audio": torch.zeros(0, 5), "vision": torch.randn(3)}] * 2)
    assert inputs["audio"].shape == (2, 0, 5)
    fusion = MissingModalityFusion({"audio": 5, "vision": 3}, 8, num_tokens=2, max_lengths={"audio": 6, "vision": 6})
    output = fusion(inputs, masks)
    assert not output.unimodal["audio"].any()
    left_out = fusion({"vision": inputs["vision"]}, masks)
    torch.testing.assert_close(output.features, left_out.features)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64], ids=str)
def test_keeps_the_dtype(dtype):
    inputs, _ = modx.collate([{"a": torch.ones(2, 3, dtype=dtype)}, {"a": None}])
    assert inputs["a"].dtype == dtype


def test_takes_arrays_and_lists():
    frames = torch.randn(2, 3)
    expected = modx.collate([{"a": frames}, {"a": frames[0]}])
    for convert in (torch.Tensor.numpy, torch.Tensor.tolist):
        torch.testing.assert_close(modx.collate([{"a": convert(frames)}, {"a": convert(frames[0])}]), expected)
    assert modx.collate([{"a": np.zeros((2, 3))}])[0]["a"].dtype == torch.float64


def test_gradients_flow_to_the_samples():
    frames = torch.randn(2, 3, requires_grad=True)
    modx.collate([{"a": frames}, {"a": torch.randn(4, 3)}])[0]["a"].sum().backward()
    assert torch.equal(frames.grad, torch.ones(2, 3))


def test_a_loader_collates_with_it():
    batches = list(DataLoader(SAMPLES, batch_size=2, collate_fn=modx.collate))
    assert [list(inputs) for inputs, _ in batches] == [["audio", "vision"]] * 2
    torch.testing.assert_close(batches[1], modx.collate(SAMPLES[2:]))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            torch.zeros(2, 4),
            "samples[2]['a'] of width 3 in torch.float32, like earlier samples, got torch.float32 (2, 4)",
        ),
        (
            np.zeros((2, 3)),
            "samples[2]['a'] of width 3 in torch.float32, like earlier samples, got torch.float64 (2, 3)",
        ),
        (torch.zeros(1, 2, 3), "samples[2]['a'] of shape (L, D) or (D,), got (1, 2, 3)"),
        (0.5, "samples[2]['a'] of shape (L, D) or (D,), got ()"),
    ],
)
def test_a_sample_unlike_the_others_is_named(value, message):
    with pytest.raises(ValueError, match=re.escape(f"collate expected {message}")):
        modx.collate([{"a": torch.zeros(1, 3)}, {"a": None}, {"a": value}])


@pytest.mark.parametrize("samples", [[], [{}], [{"a": None}, {}]])
def test_nothing_at_all_is_refused(samples):
    with pytest.raises(ValueError, match="at least one modality"):
        modx.collate(samples)


def test_a_sample_that_is_no_mapping_is_named():
    with pytest.raises(TypeError, match=re.escape("collate expected samples[1] of type Mapping, got [0.0]")):
        modx.collate([{"a": torch.zeros(3)}, [0.0]])
