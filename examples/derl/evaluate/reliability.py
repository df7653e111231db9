"""Calibrate on validation how far answers may be off, and measure on test how well that holds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from derl.data.missing import MissingDataset
from derl.evaluate.conformal import Calibration
from derl.evaluate.scores import Predicted
from derl.evaluate.task import Task

CONFIDENCE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def calibrate(datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted], task: Task) -> Calibration:
    """Calibrate under each condition, on the samples that have its available modalities."""
    answers = matching(datasets, predicted)
    return Calibration.of({name: task.conformity(*pair) for name, pair in answers.items()})


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
        scores = task.conformity(answers, labels)
        quantiles = [calibration.quantile([name], level) for level in CONFIDENCE_LEVELS]
        found["test_samples"].append(len(scores))
        found["coverage"].append([(scores <= quantile).double().mean().item() for quantile in quantiles])
        found["widths"].append(task.widths(answers, quantiles))
        error = task.calibration_error(answers, labels)
        if error is not None:
            found.setdefault("calibration_error", []).append(error)
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
