"""Evaluate a model under missing input, beside constant predictors and, where known, the best possible predictor."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from derl.data.classes import seven_classes
from derl.data.missing import MissingDataset
from derl.evaluate.conditions import RATES, Condition, inter_modal, intra_modal
from derl.evaluate.diagnostics import diagnose, entropy, load
from derl.evaluate.scores import Metrics, Predicted, predict
from derl.model.config import DerlConfig
from modx.metrics import ConstantInputWarning, sentiment_metrics

CONFUSION_RATES = (0.1, 0.5, 0.9)
CONSTANTS = ("all negative", "all positive", "training mean")  # in the order of `constants`
BEST_POSSIBLE = "best possible"


def constants(train_labels: Tensor) -> dict[str, float]:
    """Return predictors that ignore their input: the means of the negative, the positive and all training labels.

    If the training split has no negative (positive) label, that constant is -1 (1).
    """
    negative, positive = train_labels[train_labels < 0], train_labels[train_labels > 0]
    values = (
        negative.mean().item() if len(negative) else -1.0,
        positive.mean().item() if len(positive) else 1.0,
        train_labels.mean().item(),
    )
    return dict(zip(CONSTANTS, values, strict=True))


def evaluate(
    trainer: Trainer,
    make_dataset: Callable[[Condition], MissingDataset],
    train_labels: Tensor,
    *,
    model_name: str,
    pattern: str = "frames",
    best_possible: Callable[[MissingDataset], Metrics] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Evaluate a model under every condition.

    Args:
        trainer: trainer that holds the model.
        make_dataset: maps a condition to the test split under it.
        train_labels: ``(n,)``, which determine the constant predictors.
        model_name: name of the model's row.
        pattern: pattern by which input goes missing at each rate.
        best_possible: maps a dataset to the metrics of the best possible predictor on it; None if unknown.

    Returns:
        ``(results, predictions)``, the arguments of :func:`derl.report.write.write_report`.
    """
    config = trainer.model.config
    groups = {"intra_modal": intra_modal(pattern), "inter_modal": inter_modal(config.modalities)}
    datasets = {condition.name: make_dataset(condition) for group in groups.values() for condition in group}
    predicted = predict(trainer, datasets)
    split = next(iter(datasets.values())).split
    labels = split.labels
    rows: dict[str, dict[str, list[Metrics]]] = {}
    for key, group in groups.items():
        rows[key] = {model_name: [measure(predicted[condition.name].scores, labels) for condition in group]}
        for name, value in constants(train_labels).items():
            rows[key][name] = [measure(torch.full_like(labels, value), labels)] * len(group)
        if best_possible is not None:
            rows[key][BEST_POSSIBLE] = [best_possible(datasets[condition.name]) for condition in group]
    incomplete = len(groups["inter_modal"]) - 1
    results = {
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
        "diagnostics": {name: diagnose(answer, labels) for name, answer in predicted.items()},
        "routing": routing([predicted[condition.name] for condition in groups["intra_modal"]], config),
        "confusion": {
            "rates": list(CONFUSION_RATES),
            "matrices": [confusion(predicted[f"r={rate}"].scores, labels) for rate in CONFUSION_RATES],
        },
    }
    columns = {"id": split.ids, "label": labels.tolist()}
    columns |= {name: answer.scores.tolist() for name, answer in predicted.items()}
    return results, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def measure(scores: Tensor, labels: Tensor) -> Metrics:
    """Return all sentiment metrics; undefined ones are NaN, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)  # the report explains the NaN
        return {name: value.item() for name, value in sentiment_metrics(scores, labels).items()}


def average(rows: Sequence[Metrics]) -> Metrics:
    """Return the mean of every metric."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def confusion(scores: Tensor, labels: Tensor) -> list[list[int]]:
    """Return the confusion counts of the seven classes; rows are true, columns predicted."""
    classes = [(seven_classes(values) + 3).long() for values in (labels, scores)]
    counts = torch.bincount(classes[0] * 7 + classes[1], minlength=49)
    return counts.reshape(7, 7).tolist()


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
