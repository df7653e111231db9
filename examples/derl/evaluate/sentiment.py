"""Sentiment in [-3, 3], as in CMU-MOSI and CMU-MOSEI."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from derl.data.classes import LIMIT, seven_classes
from derl.evaluate.answer import Answer
from derl.evaluate.task import CORR, Column, Metrics, Task, spread
from modx.metrics import ConstantInputWarning, sentiment_metrics

CONSTANTS = ("all negative", "all positive", "training mean")  # in the order of `constants`
CLASS_NAMES = {
    -3: "strongly negative",
    -2: "negative",
    -1: "weakly negative",
    0: "neutral",
    1: "weakly positive",
    2: "positive",
    3: "strongly positive",
}
MAE = Column("MAE", ("mae",), ".3f", higher_is_better=False, unit="label units")


class Sentiment(Task):
    """Scores whose sign and rounded value are classes, by the metrics that papers report."""

    name = "sentiment"
    what = "Multimodal sentiment regression"
    does = "Scores sentiment from about -3 to 3"
    holds = "the score, one of seven classes (-3 to 3),"
    columns = (
        MAE,
        CORR,
        Column("Acc-2", ("acc2_has0", "acc2_non0")),
        Column("F1", ("f1_has0", "f1_non0")),
        Column("Acc-5", ("acc5",)),
        Column("Acc-7", ("acc7",)),
    )
    compared = (
        MAE,
        Column("Acc-2, negative against non-negative", ("acc2_has0",)),
        Column("Acc-2, negative against positive", ("acc2_non0",)),
    )
    brief = (MAE, CORR, Column("Acc-2", ("acc2_non0",)))
    note = (
        "Acc-2 and F1: negative against non-negative / negative against positive. Corr is not defined (-) for constant "
        "predictions."
    )
    form = "+.3f"
    classes = tuple(f"{value:+d}" if value else "0" for value in range(-LIMIT, LIMIT + 1))

    def measure(self, answers: Tensor, labels: Tensor) -> Metrics:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)  # the report explains the NaN
            return {name: value.item() for name, value in sentiment_metrics(answers, labels).items()}

    def constants(self, train_labels: Tensor) -> dict[str, Tensor]:
        """Return the means of the negative, the positive and all training labels.

        If the training split has no negative (positive) label, that constant is -1 (1).
        """
        negative, positive = train_labels[train_labels < 0], train_labels[train_labels > 0]
        values = (
            negative.mean() if len(negative) else torch.tensor(-1.0),
            positive.mean() if len(positive) else torch.tensor(1.0),
            train_labels.mean(),
        )
        return dict(zip(CONSTANTS, values, strict=True))

    def variety(self, answers: Tensor, labels: Tensor) -> dict[str, float | str]:
        counts = self.numbers(answers).bincount(minlength=len(self.classes))
        return {
            "spread": spread(answers, labels),
            "commonest_class": float(counts.argmax().item() - LIMIT),
            "commonest_share": counts.max().item() / len(answers),
        }

    def numbers(self, values: Tensor) -> Tensor:
        return (seven_classes(values) + LIMIT).long()

    def answers(self, predictions: Tensor, weights: Sequence[dict[str, float] | None]) -> list[Answer]:
        classes = seven_classes(predictions).int().tolist()
        return [
            Answer(score, shares, CLASS_NAMES[number], number)
            for score, shares, number in zip(predictions.tolist(), weights, classes, strict=True)
        ]


SENTIMENT = Sentiment()
