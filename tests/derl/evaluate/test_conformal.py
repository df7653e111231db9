"""Conformal quantiles against MAPIE, and coverage against its exact law."""

import json
import math

import pytest
import torch
from scipy.stats import beta, kstest

from derl.data.split import DataError
from derl.evaluate.conformal import (
    Calibration,
    conformal_quantile,
    coverage_law,
    prediction_sets,
    true_class_scores,
)

RESIDUALS = torch.arange(57) * 37 % 101 / 10
MAPIE_REGRESSION = {0.5: 4.9, 0.8: 8.0, 0.9: 9.3, 0.95: 9.7}  # SplitConformalRegressor of MAPIE 1.6.0
MAPIE_CLASSIFICATION = {  # SplitConformalClassifier of MAPIE 1.6.0, "lac": classes in the sets of the last ten rows
    0.6: ["12", "01", "012", "1", "02", "01", "01", "02", "1", "02"],
    0.9: ["012", "01", "012", "1", "012", "012", "01", "012", "012", "02"],
}


def probabilities():
    rows = torch.arange(40)
    logits = torch.stack([7 * rows % 11, 5 * rows % 13, 3 * rows % 7], 1) / 3
    return logits.double().softmax(1), rows * 5 % 7 % 3


@pytest.mark.parametrize(("level", "expected"), MAPIE_REGRESSION.items())
def test_the_quantile_of_residuals_is_mapies(level, expected):
    assert conformal_quantile(RESIDUALS, level) == pytest.approx(expected)
    assert Calibration.of({"text": RESIDUALS}).quantile(["text"], level) == pytest.approx(expected)


@pytest.mark.parametrize(("level", "expected"), MAPIE_CLASSIFICATION.items())
def test_the_sets_of_classes_are_mapies(level, expected):
    given, labels = probabilities()
    quantile = conformal_quantile(true_class_scores(given[:30], labels[:30]), level)
    sets = prediction_sets(given[30:], quantile)
    assert ["".join(str(label) for label in row.nonzero().flatten().tolist()) for row in sets] == expected


def test_a_set_holds_the_most_probable_class_even_if_no_class_is_probable_enough():
    sets = prediction_sets(torch.tensor([[0.3, 0.4, 0.3]]), 0.5)
    assert sets.tolist() == [[False, True, False]]


@pytest.mark.parametrize("count", [9, 20, 99])
def test_coverage_of_exchangeable_samples_has_its_exact_law(count):
    """With uniform scores, the probability to stay within the quantile is Beta(k, n + 1 - k) with k the rank."""
    generator = torch.Generator().manual_seed(count)
    rank = math.ceil((count + 1) * 0.9)
    covered = [conformal_quantile(torch.rand(count, generator=generator), 0.9) for _ in range(1000)]
    law = beta(rank, count + 1 - rank)
    assert law.mean() >= 0.9
    assert kstest(covered, law.cdf).pvalue > 0.01
    assert sum(covered) / 1000 >= 0.9 - 4 * law.std() / math.sqrt(1000)


def test_intervals_hold_per_condition_at_every_level():
    """Conditions of very different error: each has its coverage, which quantiles of the pooled scores have not."""
    generator = torch.Generator().manual_seed(0)

    def scores(count):
        return {
            name: scale * torch.randn(count, generator=generator).abs()
            for name, scale in {"complete": 0.5, "audio": 2.0}.items()
        }

    valid, test = scores(999), scores(4000)
    levels = (0.5, 0.8, 0.9, 0.95)
    calibration = Calibration.of(valid)
    pooled = torch.cat(list(valid.values()))
    for name in test:
        for level in levels:
            coverage = (test[name] <= calibration.quantile([name], level)).double().mean().item()
            assert coverage == pytest.approx(level, abs=5 * math.sqrt(level * (1 - level) * (1 / 999 + 1 / 4000)))
        assert abs((test[name] <= conformal_quantile(pooled, 0.9)).double().mean().item() - 0.9) > 0.05


@pytest.mark.parametrize(("count", "finite"), [(8, False), (9, True)])
def test_too_few_samples_for_a_level_give_no_finite_interval(count, finite):
    assert math.isfinite(conformal_quantile(torch.ones(count), 0.9)) is finite
    assert math.isinf(conformal_quantile(torch.ones(0), 0.5))


def test_a_level_in_percent_is_not_rounded_up():
    scores = torch.arange(1.0, 100.0)  # (n + 1) level is whole
    assert [conformal_quantile(scores, percent / 100) for percent in range(1, 100)] == list(range(1, 100))


def test_a_condition_that_was_not_calibrated_is_unbounded():
    calibration = Calibration.of({"text": torch.ones(20)})
    assert calibration.quantile(["text", "audio"]) == math.inf


@pytest.mark.parametrize("level", [0.0, 1.0, 90, 0.905, math.nan, math.inf, -0.1])
def test_a_level_that_is_not_a_percentage_is_refused(level):
    with pytest.raises(ValueError, match=r"confidence_level expected 0\.01, 0\.02 \.\. or 0\.99, got"):
        conformal_quantile(torch.ones(20), level)


def test_what_is_saved_is_read(tmp_path):
    calibration = Calibration.of({"r=0.0": RESIDUALS, "audio": torch.ones(3), "none": torch.ones(0)})
    calibration.save(tmp_path)
    assert Calibration.load(tmp_path / "calibration.json") == calibration
    json.loads((tmp_path / "calibration.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("change", ["retrained", "one shard more", "gone"])
def test_quantiles_of_other_weights_are_refused(tmp_path, change):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    calibration = Calibration.of({"text": torch.ones(20)})
    calibration.save(tmp_path)
    assert Calibration.load(tmp_path / "calibration.json") == calibration
    match change:
        case "retrained":
            (tmp_path / "model.safetensors").write_bytes(b"WEIGHTS")
        case "one shard more":
            (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"more")
        case "gone":
            (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"expected the quantiles of the weights .* found others; evaluate"):
        Calibration.load(tmp_path / "calibration.json")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"samples": {"text": 3}, "quantiles": {}}',
        '{"samples": {"text": 3}, "quantiles": {"text": [1.0]}}',
        json.dumps({"samples": {"text": 3}, "quantiles": {"text": [float("nan")] * 99}}),
        json.dumps({"samples": {"text": 3}, "quantiles": {"text": [-1.0] * 99}}),
        json.dumps({"samples": {"text": 3}, "quantiles": {"text": list(range(99, 0, -1))}}),
        json.dumps({"samples": {"text": 3}, "quantiles": {"text": ["a"] * 99}}),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(DataError, match=r"calibration\.json: expected the quantiles that an evaluation saved, found"):
        Calibration.load(tmp_path / "calibration.json")


def test_intervals_of_a_run_hold_on_its_test_split_under_every_condition(smoke_run):
    """Within what chance allows: the law's tails beyond one in 10,000 would show a fault."""
    found = json.loads((smoke_run / "results.json").read_text())["intervals"]
    rows = zip(found["calibration_samples"], found["test_samples"], found["coverage"], strict=True)
    assert len(found["conditions"]) == 17
    for count, tested, coverages in rows:
        for level, coverage in zip(found["levels"], coverages, strict=True):
            law = coverage_law(count, tested, level)
            assert law.cdf(round(coverage * tested)) > 1e-4
            assert law.sf(round(coverage * tested) - 1) > 1e-4


def test_calibration_lies_beside_the_model_and_is_of_its_errors(smoke_run):
    calibration = Calibration.load(smoke_run / "model" / "calibration.json")
    found = json.loads((smoke_run / "results.json").read_text())["intervals"]
    assert calibration.samples == dict(zip(found["conditions"], found["calibration_samples"], strict=True))
    for name, widths in zip(found["conditions"], found["widths"], strict=True):
        expected = [math.inf if value is None else value for value in widths]
        assert [2 * calibration.quantile([name], level) for level in found["levels"]] == expected
