"""Metrics of each task against scikit-learn and SciPy, and the answers that ignore the input."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from derl.evaluate.classification import Classification
from derl.evaluate.diagnostics import is_collapsed
from derl.evaluate.protocol import confusion
from derl.evaluate.regression import Regression
from derl.evaluate.sentiment import SENTIMENT
from derl.evaluate.tasks import reported_task, task_of
from derl.model.config import DerlConfig


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_numbers_on_any_scale_are_measured_as_scikit_learn_does(scale):
    rng = np.random.default_rng(0)
    labels = rng.standard_normal(50) * scale + 3 * scale
    answers = labels + rng.standard_normal(50) * scale / 2
    found = Regression().measure(torch.tensor(answers).float(), torch.tensor(labels).float())
    assert found["mae"] == pytest.approx(mean_absolute_error(labels, answers), rel=1e-4)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(labels, answers), rel=1e-4)
    assert found["r2"] == pytest.approx(r2_score(labels, answers), abs=1e-4)
    assert found["corr"] == pytest.approx(pearsonr(answers, labels).statistic, abs=1e-4)


def test_what_is_not_defined_is_nan_without_a_warning():
    found = Regression().measure(torch.ones(3), torch.tensor([1.0, 2.0, 3.0]))
    assert math.isnan(found["corr"])
    assert found["r2"] == pytest.approx(-1.5)
    found = Regression().measure(torch.tensor([1.0, 2.0]), torch.ones(2))
    assert math.isnan(found["corr"])
    assert math.isnan(found["r2"])


@pytest.mark.parametrize("count", [2, 3, 12])
def test_any_number_of_classes_is_measured_as_scikit_learn_does(count):
    generator = torch.Generator().manual_seed(count)
    labels = torch.randint(count - 1 if count > 2 else 2, (60,), generator=generator)  # one class has no label
    logits = torch.randn(60, count, generator=generator) + 2 * torch.eye(count)[labels]
    task = Classification([f"class {number}" for number in range(count)])
    found = task.measure(logits, labels.float())
    answers = logits.argmax(1)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, answers), abs=1e-6)
    assert found["f1_macro"] == pytest.approx(f1_score(labels, answers, average="macro"), abs=1e-6)
    assert found["f1_weighted"] == pytest.approx(f1_score(labels, answers, average="weighted"), abs=1e-6)
    assert confusion(logits, labels.float(), task) == confusion_matrix(labels, answers, labels=range(count)).tolist()


def test_the_constant_of_classes_is_the_commonest_of_training():
    task = Classification(["a", "b", "c"])
    constants = task.constants(torch.tensor([2.0, 1.0, 1.0]))
    assert list(constants) == ["commonest class"]
    assert task.measure_constant(constants["commonest class"], torch.tensor([1.0, 0.0]))["accuracy"] == 0.5


def test_the_constants_of_numbers_are_mean_and_median():
    constants = Regression().constants(torch.tensor([1.0, 2.0, 9.0]))
    assert {name: value.item() for name, value in constants.items()} == {"training mean": 4, "training median": 2}
    assert Regression().measure_constant(constants["training mean"], torch.tensor([3.0, 5.0]))["mae"] == 1


def test_a_collapse_is_named_by_its_class():
    task = Classification(["a", "b"])
    diagnosis = task.variety(torch.tensor([[0.0, 1.0]] * 30), torch.zeros(30))
    assert diagnosis == {"commonest_class": "b", "commonest_share": 1.0}
    assert is_collapsed(diagnosis)
    assert not is_collapsed(task.variety(torch.eye(2).repeat(4, 1), torch.zeros(8)))
    assert is_collapsed(Regression().variety(torch.full((5,), 3.0), torch.arange(5.0)))


def test_a_model_and_its_report_name_the_same_task():
    config = DerlConfig(problem_type="single_label_classification", id2label={0: "no", 1: "yes", 2: "maybe"})
    assert task_of(config).classes == ("no", "yes", "maybe")
    assert reported_task({"task": "classification", "classes": ["no", "yes"]}).classes == ("no", "yes")
    assert task_of(DerlConfig()) is reported_task({"task": "sentiment"}) is SENTIMENT
    assert task_of(DerlConfig(sentiment=False)).name == reported_task({"task": "regression"}).name == "regression"
