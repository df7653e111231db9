"""Calibrate on validation how far answers may be off, and measure on test how well that holds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from derl.data.missing import MissingDataset
from derl.evaluate.conformal import Calibration, prediction_sets, true_class_scores
from derl.evaluate.scores import Predicted
from derl.evaluate.task import Task

CONFIDENCE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def calibrate(datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted], task: Task) -> Calibration:
    """Calibrate under each condition, on the samples that have its available modalities."""
    answers = matching(datasets, predicted)
    return Calibration.of({name: conformity(*pair, task) for name, pair in answers.items()})


def assess(
    calibration: Calibration, datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted], task: Task
) -> dict[str, list[Any]]:
    """Measure on test samples how often the truth is within the quantiles, and how wide the answers are.

    Returns:
        ``conditions``; ``levels``, confidence levels; ``calibration_samples`` and ``test_samples`` per condition; and
        ``widths`` and ``coverage`` per condition and level. A width is that of an interval, or the mean number of
        classes in a set. For classes also ``calibration_error`` per condition (Naeini et al., 2015). Means over no test
        sample are NaN.
    """
    found: dict[str, list[Any]] = {
        "conditions": list(datasets),
        "levels": list(CONFIDENCE_LEVELS),
        "calibration_samples": [calibration.samples[name] for name in datasets],
        "test_samples": [],
        "widths": [],
        "coverage": [],
    }
    for name, (answers, labels) in matching(datasets, predicted).items():
        scores = conformity(answers, labels, task)
        quantiles = [calibration.quantile([name], level) for level in CONFIDENCE_LEVELS]
        found["test_samples"].append(len(scores))
        found["coverage"].append([(scores <= quantile).double().mean().item() for quantile in quantiles])
        if answers.ndim == 1:
            found["widths"].append([2 * quantile for quantile in quantiles])
            continue
        shares = answers.softmax(-1)
        sizes = [prediction_sets(shares, quantile).sum(1).double().mean().item() for quantile in quantiles]
        error = (
            multiclass_calibration_error(shares, task.numbers(labels), shares.shape[1]) if len(shares) else torch.nan
        )
        found["widths"].append(sizes)
        found.setdefault("calibration_error", []).append(float(error))
    return found


def matching(
    datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return, per condition, answers and labels of the samples that have its available modalities."""
    found = {}
    for name, dataset in datasets.items():
        lengths, labels = dataset.lengths(), dataset.split.labels
        there = torch.ones(len(labels), dtype=torch.bool)
        for modality in dataset.available or ():
            there &= lengths[modality] > 0
        found[name] = predicted[name].scores[there], labels[there]
    return found


def conformity(answers: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Return how badly answers fit, ``(n,)``: absolute errors, or 1 - p of the true class for logits ``(n, C)``."""
    if answers.ndim == 2:
        return true_class_scores(answers.softmax(-1), task.numbers(labels))
    return (answers - labels).abs()
