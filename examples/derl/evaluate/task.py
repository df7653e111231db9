"""What differs between tasks after training: metrics, constant answers, how an answer reads, and words in reports."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from derl.evaluate.answer import Answer

Metrics = dict[str, float]


class Column(NamedTuple):
    """A column of the tables, and a panel of the figures.

    Attributes:
        title: its header.
        metrics: the metrics in it, divided by "/".
        form: "percent", or a format, e.g. ".3f".
        higher_is_better: whether a larger figure is better.
        unit: what follows the title above a panel.
    """

    title: str
    metrics: tuple[str, ...]
    form: str = "percent"
    higher_is_better: bool = True
    unit: str = "%"

    def cell(self, metrics: Metrics) -> str:
        """Format the column's metrics; what is not defined is "-".

        Example:
            >>> Column("Acc-2", ("has0", "non0")).cell({"has0": 0.5, "non0": float("nan")})
            '50.00/-'
        """
        return "/".join(self.figure(metrics[name]) for name in self.metrics)

    def figure(self, value: float) -> str:
        """Format one metric."""
        if not math.isfinite(value):
            return "-"
        return f"{100 * value:.2f}" if self.form == "percent" else format(value, self.form)


CORR = Column("Corr", ("corr",), ".3f", unit="")


class Task(ABC):
    """A kind of label: how answers are measured and trusted, and what a report says of them.

    Methods that are not abstract suit numbers.

    Attributes:
        name: "sentiment", "regression" or "classification".
        what: the task in the words of the Hub.
        does: what a model of the task does, to begin a sentence.
        holds: what an answer holds, within a sentence.
        prior: what answers samples without any input.
        classify: whether labels are classes, see :class:`derl.data.table.Table`.
        columns: the metrics in tables and figures.
        compared: metrics for which a report says where the model is no better than a constant.
        brief: columns of the line that is printed after an epoch.
        classes: names of the classes in the confusion; none for numbers.
        note: explains the columns.
        form: the format of one number.
        criterion: the format of the figure that selected a checkpoint.
        card: the format of a metric in a model card.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    does: str
    holds: ClassVar[str] = "the score"
    prior: ClassVar[str] = "the training mean"
    classify: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]]
    compared: ClassVar[tuple[Column, ...]]
    brief: ClassVar[tuple[Column, ...]]
    note: ClassVar[str]
    form: ClassVar[str] = ".5g"
    criterion: ClassVar[str] = ".3f"
    card: ClassVar[str] = ".4f"
    classes: tuple[str, ...] = ()

    @abstractmethod
    def measure(self, answers: Tensor, labels: Tensor) -> Metrics:
        """Return all metrics; undefined ones are NaN, without a warning.

        Args:
            answers: the model's predictions: scores ``(n,)``, or logits ``(n, C)`` of classes.
            labels: ``(n,)``; numbers of classes as floating-point.
        """

    @abstractmethod
    def constants(self, train_labels: Tensor) -> dict[str, Tensor]:
        """Return answers that ignore the input, by name: ``()`` or ``(C,)``."""

    @abstractmethod
    def variety(self, answers: Tensor, labels: Tensor) -> dict[str, float | str]:
        """Return figures that show answers which are nearly all the same."""

    def numbers(self, values: Tensor) -> Tensor:
        """Return the number in ``classes`` of each answer or label, for the confusion."""
        raise NotImplementedError

    def shown(self, values: Tensor) -> list[Any]:
        """Return answers or labels as a list for people to read."""
        return values.tolist()

    def say_prior(self, mean_label: float) -> str:
        """Say what answers samples without any input, given the mean of the training labels."""
        return f"the mean of the training labels answers them: {mean_label:{self.form}}"

    def answers(self, predictions: Tensor, weights: Sequence[dict[str, float] | None]) -> list[Answer]:
        """Return answers to samples, given the model's predictions and the share of each modality."""
        return [Answer(*pair) for pair in zip(predictions.tolist(), weights, strict=True)]

    def bound(self, answer: Answer, quantile: float) -> tuple[Answer, float]:
        """Return an answer with its interval, or its set of classes, within a quantile of :meth:`conformity`.

        Returns:
            The answer, and its width: that of the interval, or the number of classes.
        """
        return replace(answer, interval=(answer.score - quantile, answer.score + quantile)), 2 * quantile

    def conformity(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Return how badly answers fit, ``(n,)``: absolute errors."""
        return (answers - labels).abs()

    def widths(self, answers: Tensor, quantiles: Sequence[float]) -> list[float]:
        """Return the mean width of answers within each quantile."""
        return [2 * quantile for quantile in quantiles]

    def sizes(self, answers: Tensor, quantile: float) -> Tensor:
        """Return the width of each answer within a quantile, ``(n,)``: of the interval, or the number of classes."""
        return torch.full((len(answers),), 2 * quantile)

    def wrong(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Return how wrong each answer is, ``(n,)``: the absolute error, or 1 for the wrong class."""
        return (answers - labels).abs()

    def width(self, width: float) -> str:
        """Format the width of an interval, or the mean size of a set of classes."""
        return f"{width:.2f}" if math.isfinite(width) else "unbounded"

    def calibration_error(self, answers: Tensor, labels: Tensor) -> float | None:
        """Return how far probabilities are off (Naeini et al., 2015); NaN without samples, None without classes."""
        return None

    def measure_constant(self, answer: Tensor, labels: Tensor) -> Metrics:
        """Return the metrics of one answer to every sample."""
        return self.measure(answer.expand(len(labels), *answer.shape), labels)


def spread(scores: Tensor, labels: Tensor) -> float:
    """Return the standard deviation of the scores over that of the labels."""
    return (scores.std(correction=0) / labels.std(correction=0)).item()
