"""Evaluate a model under missing input, beside constant predictors and, where known, the best possible predictor."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from derl.data.missing import MissingDataset
from derl.evaluate.conditions import RATES, Condition, inter_modal, intra_modal
from derl.evaluate.conformal import Calibration
from derl.evaluate.diagnostics import diagnose, entropy, load
from derl.evaluate.reliability import assess, calibrate
from derl.evaluate.scores import Predicted, predict
from derl.evaluate.task import Metrics, Task
from derl.evaluate.tasks import task_of
from derl.model.config import DerlConfig

CONFUSION_RATES = (0.1, 0.5, 0.9)
BEST_POSSIBLE = "best possible"


def evaluate(
    trainer: Trainer,
    make_dataset: Callable[[str, Condition], MissingDataset],
    train_labels: Tensor,
    *,
    model_name: str,
    pattern: str = "frames",
    best_possible: Callable[[MissingDataset], Metrics] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]], Calibration]:
    """Evaluate a model under every condition, and calibrate its intervals on the validation split.

    Args:
        trainer: trainer that holds the model.
        make_dataset: maps "test" or "valid", and a condition, to that split under it.
        train_labels: ``(n,)``, which determine the constant predictors.
        model_name: name of the model's row.
        pattern: pattern by which input goes missing at each rate.
        best_possible: maps a dataset to the metrics of the best possible predictor on it; None if unknown.

    Returns:
        ``(results, predictions, calibration)``; the first two are arguments of
        :func:`derl.report.write.write_report`.
    """
    config = trainer.model.config
    task = task_of(config)
    constants = task.constants(train_labels)
    groups = {"intra_modal": intra_modal(pattern), "inter_modal": inter_modal(config.modalities)}
    conditions = [condition for group in groups.values() for condition in group]
    datasets = {condition.name: make_dataset("test", condition) for condition in conditions}
    predicted = predict(trainer, datasets)
    valid = {condition.name: make_dataset("valid", condition) for condition in conditions}
    calibration = calibrate(valid, predict(trainer, valid), task)
    split = next(iter(datasets.values())).split
    labels = split.labels
    rows: dict[str, dict[str, list[Metrics]]] = {}
    for key, group in groups.items():
        rows[key] = {model_name: [task.measure(predicted[condition.name].scores, labels) for condition in group]}
        for name, answer in constants.items():
            rows[key][name] = [task.measure_constant(answer, labels)] * len(group)
        if best_possible is not None:
            rows[key][BEST_POSSIBLE] = [best_possible(datasets[condition.name]) for condition in group]
    incomplete = len(groups["inter_modal"]) - 1
    results = {
        "task": task.name,
        "classes": list(task.classes),
        "constants": list(constants),
        "pattern": pattern,
        "dropped_modality": config.dropped_modality,
        "partly_missing": config.partly_missing,
        "intra_modal": {
            "rates": list(RATES),
            "rows": rows["intra_modal"],
            "average": {name: average(metrics) for name, metrics in rows["intra_modal"].items()},
        },
        "inter_modal": {
            "conditions": [list(condition.available or ()) for condition in groups["inter_modal"]],
            "rows": rows["inter_modal"],
            "average_incomplete": {
                name: average(metrics[:incomplete] or metrics) for name, metrics in rows["inter_modal"].items()
            },
            "average_all": {name: average(metrics) for name, metrics in rows["inter_modal"].items()},
        },
        "missing_before": {name: missing._asdict() for name, missing in split.missing().items()},
        "nothing_left": {
            name: count for name, answer in predicted.items() if (count := int(answer.nothing_left.sum()))
        },
        "diagnostics": {name: diagnose(answer, labels, task) for name, answer in predicted.items()},
        "routing": routing([predicted[condition.name] for condition in groups["intra_modal"]], config),
        "confusion": {
            "rates": list(CONFUSION_RATES),
            "matrices": [confusion(predicted[f"r={rate}"].scores, labels, task) for rate in CONFUSION_RATES],
        }
        if task.classes
        else None,
        "intervals": assess(calibration, datasets, predicted, task),
    }
    columns = {"id": split.ids, "label": task.shown(labels)}
    columns |= {name: task.shown(answer.scores) for name, answer in predicted.items()}
    predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return results, predictions, calibration


def average(rows: Sequence[Metrics]) -> Metrics:
    """Return the mean of every metric."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def confusion(answers: Tensor, labels: Tensor, task: Task) -> list[list[int]]:
    """Return the confusion counts of the task's classes; rows are true, columns predicted."""
    count = len(task.classes)
    counts = torch.bincount(task.numbers(labels) * count + task.numbers(answers), minlength=count**2)
    return counts.reshape(count, count).tolist()


def routing(predicted: Sequence[Predicted], config: DerlConfig) -> dict[str, Any] | None:
    """Return mean router weights per missing rate, for the views in the fusion and for each modality's experts."""
    fusion = [answer.fusion_weights for answer in predicted if answer.fusion_weights is not None]
    if not fusion or not predicted[0].expert_weights:
        return None
    labels = [
        f"{kind} {index + 1}"
        for kind, count in (("private", config.num_private_experts), ("shared", config.num_shared_experts))
        for index in range(count)
    ]
    views = [f"{name} {view}" for view in ("private", "shared") for name in config.modalities]
    fusion_loads = [load(weights) for weights in fusion]
    experts = {}
    for name in config.modalities:
        loads = [load(answer.expert_weights[name]) for answer in predicted]
        experts[name] = {label: [shares[index] for shares in loads] for index, label in enumerate(labels)}
    return {
        "rates": list(RATES),
        "fusion": {view: [shares[index] for shares in fusion_loads] for index, view in enumerate(views)},
        "experts": experts,
        "entropy": [entropy(weights) for weights in fusion],
    }
