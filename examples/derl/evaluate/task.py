"""What differs between tasks in evaluation and reports: metrics, constant answers, classes."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

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
    """A kind of label: how answers are measured, and what a report says of them.

    Attributes:
        name: "sentiment", "regression" or "classification".
        what: the task in the words of the Hub.
        columns: the metrics in tables and figures.
        compared: metrics for which a report says where the model is no better than a constant.
        brief: columns of the line that is printed after an epoch.
        classes: names of the classes in the confusion; none for numbers.
        note: explains the columns.
        form: the format of one number.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    compared: ClassVar[tuple[Column, ...]]
    brief: ClassVar[tuple[Column, ...]]
    note: ClassVar[str]
    form: ClassVar[str] = ".5g"
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

    def measure_constant(self, answer: Tensor, labels: Tensor) -> Metrics:
        """Return the metrics of one answer to every sample."""
        return self.measure(answer.expand(len(labels), *answer.shape), labels)


def spread(scores: Tensor, labels: Tensor) -> float:
    """Return the standard deviation of the scores over that of the labels."""
    return (scores.std(correction=0) / labels.std(correction=0)).item()
