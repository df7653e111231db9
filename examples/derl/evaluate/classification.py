"""Any number of classes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.functional.classification import multiclass_calibration_error

from derl.evaluate.answer import Answer
from derl.evaluate.conformal import prediction_sets, true_class_scores
from derl.evaluate.task import Column, Metrics, Task

SHOWN = 10  # classes listed by name
ACCURACY, MACRO = Column("accuracy", ("accuracy",)), Column("macro F1", ("f1_macro",))


class Classification(Task):
    """One of several classes per sample; the answer is the class of the largest logit.

    Args:
        classes: names of the classes, in the order of the logits.
    """

    name = "classification"
    what = "Multimodal classification"
    holds = "the class, its probability, that of every class,"
    prior = "the shares of classes"
    classify = True
    columns = (ACCURACY, MACRO, Column("weighted F1", ("f1_weighted",)))
    compared = (ACCURACY, MACRO)
    brief = columns
    note = (
        "Macro F1 is the mean over classes, weighted F1 that weighted by their number of labels; a class without "
        "labels and answers does not count."
    )

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.does = f"Predicts one of {len(self.classes)} classes ({', '.join(self.classes[:SHOWN])})"

    def measure(self, answers: Tensor, labels: Tensor) -> Metrics:
        """Return ``accuracy``, ``f1_macro`` and ``f1_weighted``.

        Example:
            >>> logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 2.0]])
            >>> found = Classification(["no", "yes"]).measure(logits, torch.tensor([0.0, 1.0, 1.0]))
            >>> {name: round(value, 3) for name, value in found.items()}
            {'accuracy': 0.667, 'f1_macro': 0.667, 'f1_weighted': 0.667}
        """
        count = len(self.classes)
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(count, average="micro"),
                "f1_macro": MulticlassF1Score(count, average="macro"),
                "f1_weighted": MulticlassF1Score(count, average="weighted"),
            },
            compute_groups=False,
        )
        found = metrics(self.numbers(answers), self.numbers(labels))
        return {name: found[name].item() for name in ("accuracy", "f1_macro", "f1_weighted")}

    def constants(self, train_labels: Tensor) -> dict[str, Tensor]:
        """Return the commonest class of the training labels, as logits."""
        counts = self.numbers(train_labels).bincount(minlength=len(self.classes))
        return {"commonest class": torch.eye(len(self.classes))[counts.argmax()]}

    def variety(self, answers: Tensor, labels: Tensor) -> dict[str, float | str]:
        counts = self.numbers(answers).bincount(minlength=len(self.classes))
        return {
            "commonest_class": self.classes[int(counts.argmax())],
            "commonest_share": counts.max().item() / len(answers),
        }

    def numbers(self, values: Tensor) -> Tensor:
        return values.argmax(-1) if values.ndim == 2 else values.long()

    def shown(self, values: Tensor) -> list[Any]:
        return [self.classes[number] for number in self.numbers(values).tolist()]

    def say_prior(self, mean_label: float) -> str:
        return "the shares of the classes in training answer them"

    def answers(self, predictions: Tensor, weights: Sequence[dict[str, float] | None]) -> list[Answer]:
        named = [dict(zip(self.classes, row, strict=True)) for row in predictions.softmax(-1).tolist()]
        likeliest = [max(each, key=each.__getitem__) for each in named]
        return [
            Answer(each[name], shares, name, probabilities=each)
            for each, name, shares in zip(named, likeliest, weights, strict=True)
        ]

    def bound(self, answer: Answer, quantile: float) -> tuple[Answer, float]:
        shares = answer.probabilities or {}
        (row,) = prediction_sets(torch.tensor([list(shares.values())]), quantile).tolist()
        within = [name for name, there in zip(shares, row, strict=True) if there]
        classes = tuple(sorted(within, key=shares.__getitem__, reverse=True))
        return replace(answer, classes=classes), len(classes)

    def conformity(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Return 1 - p of the true class for logits ``(n, C)``."""
        return true_class_scores(answers.softmax(-1), self.numbers(labels))

    def widths(self, answers: Tensor, quantiles: Sequence[float]) -> list[float]:
        shares = answers.softmax(-1)
        return [prediction_sets(shares, quantile).sum(1).double().mean().item() for quantile in quantiles]

    def sizes(self, answers: Tensor, quantile: float) -> Tensor:
        return prediction_sets(answers.softmax(-1), quantile).sum(1).float()

    def wrong(self, answers: Tensor, labels: Tensor) -> Tensor:
        return (answers.argmax(-1) != self.numbers(labels)).float()

    def calibration_error(self, answers: Tensor, labels: Tensor) -> float | None:
        if not len(answers):
            return math.nan
        return float(multiclass_calibration_error(answers.softmax(-1), self.numbers(labels), len(self.classes)))
