"""Calibration and its assessment, for numbers and for classes, with samples that lack a modality."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from derl.evaluate.classification import Classification
from derl.evaluate.regression import Regression
from derl.evaluate.reliability import CONFIDENCE_LEVELS, assess, calibrate
from derl.evaluate.scores import Predicted


def under_conditions(answers, labels, lacking=()):
    """Two conditions of the same answers; some samples lack audio."""
    lengths = {"text": torch.ones(len(labels)), "audio": torch.ones(len(labels))}
    lengths["audio"][list(lacking)] = 0
    split = SimpleNamespace(labels=labels)
    datasets = {
        name: SimpleNamespace(split=split, available=available, lengths=lambda: lengths)
        for name, available in (("r=0.0", None), ("audio", ("audio",)))
    }
    nothing = torch.zeros(len(labels), dtype=torch.bool)
    return datasets, {name: Predicted(answers, {}, None, nothing) for name in datasets}


def draw(count, generator):
    """Logits of three classes that are right about how often each class is true, and labels."""
    logits = 2 * torch.randn(count, 3, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1).float()


def test_sets_of_classes_hold_and_their_sizes_and_calibration_error_are_measured():
    generator = torch.Generator().manual_seed(0)
    task = Classification(["a", "b", "c"])
    valid, test = draw(999, generator), draw(2000, generator)
    found = assess(calibrate(*under_conditions(*valid), task), *under_conditions(*test), task)
    for row in range(2):
        assert found["coverage"][row][-3:] == pytest.approx(CONFIDENCE_LEVELS[-3:], abs=0.05)
        assert 1 <= found["widths"][row][0] < found["widths"][row][-2] < found["widths"][row][-1] < 3
        assert all(
            cover >= level - 0.05 for cover, level in zip(found["coverage"][row], CONFIDENCE_LEVELS, strict=True)
        )
    expected = MulticlassCalibrationError(3)(test[0].softmax(1), test[1].long()).item()
    assert found["calibration_error"] == pytest.approx([expected] * 2)
    assert expected < 0.03


def test_what_abstaining_leaves_is_measured_for_classes():
    generator = torch.Generator().manual_seed(0)
    task = Classification(["a", "b", "c"])
    valid, (logits, labels) = draw(999, generator), draw(2000, generator)
    calibration = calibrate(*under_conditions(*valid), task)
    found = assess(calibration, *under_conditions(logits, labels), task)["abstention"]
    shares = logits.softmax(1)
    within = 1 - shares <= calibration.quantile(["r=0.0"], 0.9)
    size = within.sum(1).clamp(min=1)
    assert found["limits"] == [1, 2, 3]
    for limit, answered, coverage, error in zip(*found.values(), strict=True):
        rows = size <= limit
        assert answered == pytest.approx(rows.double().mean().item())
        assert error == pytest.approx((shares.argmax(1) != labels)[rows].double().mean().item())
        held = within[torch.arange(2000), labels.long()][rows]
        assert coverage == pytest.approx(held.double().mean().item())
    assert found["error"] == sorted(found["error"])
    assert found["answered"][-1] == 1


def test_what_abstaining_leaves_is_measured_for_numbers_by_condition():
    labels, answers = torch.zeros(40), torch.linspace(-1, 1, 40)
    datasets, predicted = under_conditions(answers, labels)
    predicted["audio"] = replace(predicted["audio"], scores=3 * answers)
    calibration = calibrate(datasets, predicted, Regression())
    found = assess(calibration, datasets, predicted, Regression())["abstention"]
    narrow, wide = (2 * calibration.quantile([name], 0.9) for name in datasets)
    assert found["limits"] == pytest.approx([narrow, wide])
    assert found["answered"] == [0.5, 1.0]
    mean = answers.abs().mean().item()
    assert found["error"] == pytest.approx([mean, 2 * mean])


def test_nothing_is_answered_where_nothing_is_calibrated():
    answers = torch.zeros(3)  # too few for an interval
    datasets = under_conditions(answers, answers)
    found = assess(calibrate(*datasets, Regression()), *datasets, Regression())["abstention"]
    assert found == {"limits": [], "answered": [], "coverage": [], "error": []}


def test_a_sample_that_lacks_an_available_modality_does_not_count():
    answers, labels = torch.zeros(20), torch.ones(20)
    answers[:5] = 100.0  # audio is missing here, and the error large
    calibration = calibrate(*under_conditions(answers, labels, lacking=range(5)), Regression())
    assert calibration.samples == {"r=0.0": 20, "audio": 15}
    assert calibration.quantile(["audio"], 0.9) == 1.0
    assert calibration.quantile(["r=0.0"], 0.9) == 99.0
    found = assess(calibration, *under_conditions(answers, labels, lacking=range(20)), Regression())
    assert found["test_samples"] == [20, 0]
    assert found["widths"][1][CONFIDENCE_LEVELS.index(0.9)] == 2.0
    assert "calibration_error" not in found
