"""The task of a model, and of a report."""

from typing import Any

from derl.evaluate.classification import Classification
from derl.evaluate.regression import Regression
from derl.evaluate.sentiment import SENTIMENT
from derl.evaluate.task import Task
from derl.model.config import DerlConfig


def task_of(config: DerlConfig) -> Task:
    """Return the task that a model was trained for."""
    if config.problem_type == "single_label_classification":
        return Classification([config.id2label[number] for number in range(config.num_labels)])
    return SENTIMENT if config.sentiment else Regression()


def reported_task(results: dict[str, Any]) -> Task:
    """Return the task of a run's results."""
    if results["task"] == Classification.name:
        return Classification(results["classes"])
    return SENTIMENT if results["task"] == SENTIMENT.name else Regression()
