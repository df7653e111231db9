"""Calibrate on validation how far answers may be off, and measure on test how well that holds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from derl.data.missing import MissingDataset
from derl.evaluate.conformal import CONFIDENCE_LEVEL, Calibration
from derl.evaluate.scores import Predicted
from derl.evaluate.task import Task

LIMITS = 5  # widths for which is measured what abstaining from wider answers leaves
CONFIDENCE_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def calibrate(datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted], task: Task) -> Calibration:
    """Calibrate under each condition, on the samples that have its available modalities."""
    answers = matching(datasets, predicted)
    return Calibration.of({name: task.conformity(*pair) for name, pair in answers.items()})


def assess(
    calibration: Calibration, datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted], task: Task
) -> dict[str, Any]:
    """Measure on test samples how often the truth is within the quantiles, and how wide the answers are.

    Returns:
        ``conditions``; ``levels``, confidence levels; ``calibration_samples`` and ``test_samples`` per condition;
        ``widths`` and ``coverage`` per condition and level; and ``abstention``, see :func:`abstention`. A width is that
        of an interval, or the mean number of classes in a set. For classes also ``calibration_error`` per condition
        (Naeini et al., 2015). Means over no test sample are NaN.
    """
    found: dict[str, Any] = {
        "conditions": list(datasets),
        "levels": list(CONFIDENCE_LEVELS),
        "calibration_samples": [calibration.samples[name] for name in datasets],
        "test_samples": [],
        "widths": [],
        "coverage": [],
        "abstention": abstention(calibration, datasets, predicted, task),
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


def abstention(
    calibration: Calibration, datasets: Mapping[str, MissingDataset], predicted: Mapping[str, Predicted], task: Task
) -> dict[str, list[float]]:
    """Measure what is left if the model abstains from answers that are too wide at confidence level 0.9.

    Returns:
        ``limits``, the widest answers that are accepted; and for each limit, over the test samples of all conditions,
        the share ``answered``, and of these the ``coverage`` and ``error``: the mean absolute error, or the share of
        wrong classes.
    """
    sizes, held, wrong = [], [], []
    for name, (answers, labels) in matching(datasets, predicted).items():
        quantile = calibration.quantile([name], CONFIDENCE_LEVEL)
        sizes.append(task.sizes(answers, quantile).double())
        held.append(task.conformity(answers, labels) <= quantile)
        wrong.append(task.wrong(answers, labels))
    size, covered, error = torch.cat(sizes), torch.cat(held).double(), torch.cat(wrong).double()
    distinct = size[size.isfinite()].unique()
    steps = torch.linspace(0, len(distinct) - 1, min(LIMITS, len(distinct))).round().long()
    limits = distinct[steps].tolist()
    answered = [size <= limit for limit in limits]
    return {
        "limits": limits,
        "answered": [rows.double().mean().item() for rows in answered],
        "coverage": [covered[rows].mean().item() for rows in answered],
        "error": [error[rows].mean().item() for rows in answered],
    }


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
