"""How a model is judged under missing input, always beside constant predictors and, where known, the best possible."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import Trainer

from derl.config import DerlConfig
from derl.data import MissingDataset
from modx.metrics import ConstantInputWarning, ExpertLoad, RoutingEntropy, sentiment_metrics

RATES = tuple(rate / 10 for rate in range(10))
CONFUSION_RATES = (0.1, 0.5, 0.9)
Metrics = dict[str, float]


@dataclass(frozen=True)
class Condition:
    """One way in which test input goes missing: every modality at a rate, or all but some modalities whole."""

    name: str
    rate: float | None = None
    available: tuple[str, ...] | None = None


def intra_modal() -> list[Condition]:
    """Frames missing in every modality at r = 0, 0.1 .. 0.9 (Table 1 of DERL)."""
    return [Condition(f"r={rate}", rate=rate) for rate in RATES]


def inter_modal(modalities: Sequence[str]) -> list[Condition]:
    """Every combination of available modalities, the complete one last (Table 2 of DERL)."""
    return [
        Condition("+".join(names), available=names)
        for size in range(1, len(modalities) + 1)
        for names in combinations(modalities, size)
    ]


def constants(train_labels: Tensor) -> dict[str, float]:
    """Predictors that ignore their input: the means of the negative, of the positive and of all training labels.

    Where the training split has no label of a sign, that constant is -1 or 1.
    """
    negative, positive = train_labels[train_labels < 0], train_labels[train_labels > 0]
    return {
        "all negative": negative.mean().item() if len(negative) else -1.0,
        "all positive": positive.mean().item() if len(positive) else 1.0,
        "training mean": train_labels.mean().item(),
    }


def evaluate(
    trainer: Trainer,
    make_dataset: Callable[[Condition], MissingDataset],
    train_labels: Tensor,
    *,
    model_name: str,
    best_possible: Callable[[MissingDataset], Metrics] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Judge a model under every condition.

    Args:
        trainer: holds the model.
        make_dataset: the test split under a condition.
        train_labels: ``(n,)``, from which the constant predictors are made.
        model_name: name of the model's row.
        best_possible: metrics of the best possible predictor on what a dataset shows; None where it is not known.

    Returns:
        ``(results, predictions)``, as :func:`derl.report.write_report` takes them.
    """
    modalities = trainer.model.config.modalities
    groups = {"intra_modal": intra_modal(), "inter_modal": inter_modal(modalities)}
    rows: dict[str, dict[str, list[Metrics]]] = {key: {} for key in groups}
    predictions: list[dict[str, Any]] = []
    outputs: dict[str, Any] = {}
    cases = [(key, condition) for key, conditions in groups.items() for condition in conditions]
    for key, condition in tqdm(cases, desc="judging", unit="condition"):
        dataset = make_dataset(condition)
        labels = dataset.split.labels
        output = trainer.predict(dataset).predictions
        output = output if isinstance(output, tuple) else (output,)
        scores = torch.as_tensor(output[0]).float()
        if not predictions:
            predictions = [
                {"id": name, "label": label} for name, label in zip(dataset.split.ids, labels.tolist(), strict=True)
            ]
        for row, score in zip(predictions, scores.tolist(), strict=True):
            row[condition.name] = score
        outputs[condition.name] = output
        found = {model_name: _measure(scores, labels)}
        for name, value in constants(train_labels).items():
            found[name] = _measure(torch.full_like(labels, value), labels)
        if best_possible is not None:
            found["best possible"] = best_possible(dataset)
        for name, metrics in found.items():
            rows[key].setdefault(name, []).append(metrics)
    incomplete = len(groups["inter_modal"]) - 1
    results = {
        "intra_modal": {
            "rates": list(RATES),
            "rows": rows["intra_modal"],
            "average": {name: _average(metrics) for name, metrics in rows["intra_modal"].items()},
        },
        "inter_modal": {
            "conditions": [list(condition.available or ()) for condition in groups["inter_modal"]],
            "rows": rows["inter_modal"],
            "average_incomplete": {
                name: _average(metrics[:incomplete] or metrics) for name, metrics in rows["inter_modal"].items()
            },
            "average_all": {name: _average(metrics) for name, metrics in rows["inter_modal"].items()},
        },
        "routing": _routing([outputs[condition.name] for condition in groups["intra_modal"]], trainer.model.config),
        "confusion": {
            "rates": list(CONFUSION_RATES),
            "matrices": [
                _confusion(torch.as_tensor(outputs[f"r={rate}"][0]).float(), labels) for rate in CONFUSION_RATES
            ],
        },
    }
    return results, predictions


def _measure(scores: Tensor, labels: Tensor) -> Metrics:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)  # the report says so where it prints the nan
        return {name: value.item() for name, value in sentiment_metrics(scores, labels).items()}


def _average(rows: Sequence[Metrics]) -> Metrics:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _confusion(scores: Tensor, labels: Tensor) -> list[list[int]]:
    """Counts of the seven classes, rows true, columns predicted."""
    classes = [(values.clamp(-3, 3).round() + 3).long() for values in (labels, scores)]
    counts = torch.bincount(classes[0] * 7 + classes[1], minlength=49)
    return counts.reshape(7, 7).tolist()


def _routing(outputs: Sequence[tuple[Any, ...]], config: DerlConfig) -> dict[str, Any] | None:
    """Mean router weights at every rate: which view and which expert is trusted as input fades."""
    modalities = config.modalities
    if len(outputs[0]) < 3:
        return None
    labels = [
        f"{kind} {index + 1}"
        for kind, count in (("private", config.num_private_experts), ("shared", config.num_shared_experts))
        for index in range(count)
    ]
    views = [f"{name} {view}" for view in ("private", "shared") for name in modalities]
    fusion = [_load(torch.as_tensor(weights)) for _, _, weights in outputs]
    entropy = []
    for _, _, weights in outputs:
        metric = RoutingEntropy(len(views))
        metric.update(torch.as_tensor(weights))
        entropy.append(metric.compute().item())
    experts: dict[str, Mapping[str, list[float]]] = {}
    for name in modalities:
        loads = [_load(torch.as_tensor(weights[name])) for _, weights, _ in outputs]
        experts[name] = {label: [load[index] for load in loads] for index, label in enumerate(labels)}
    return {
        "rates": list(RATES),
        "fusion": {view: [load[index] for load in fusion] for index, view in enumerate(views)},
        "experts": experts,
        "entropy": entropy,
    }


def _load(weights: Tensor) -> list[float]:
    metric = ExpertLoad(weights.shape[-1])
    metric.update(weights)
    load: list[float] = metric.compute().tolist()
    return load
