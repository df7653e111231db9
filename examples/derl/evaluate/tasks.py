"""The task of a model, and of a report. A new kind of label takes a subclass of ``Task``, and a line in each table."""

from collections.abc import Callable
from typing import Any

from derl.evaluate.classification import Classification
from derl.evaluate.regression import Regression
from derl.evaluate.sentiment import SENTIMENT
from derl.evaluate.task import Task
from derl.model.config import DerlConfig

# problem_type, as in derl.model.problem -> the task of a model
OF_MODELS: dict[str, Callable[[DerlConfig], Task]] = {
    "regression": lambda config: SENTIMENT if config.sentiment else Regression(),
    "single_label_classification": lambda config: Classification(
        [config.id2label[number] for number in range(config.num_labels)]
    ),
}
# its name -> the task of a run's results
OF_REPORTS: dict[str, Callable[[dict[str, Any]], Task]] = {
    SENTIMENT.name: lambda results: SENTIMENT,
    Regression.name: lambda results: Regression(),
    Classification.name: lambda results: Classification(results["classes"]),
}


def task_of(config: DerlConfig) -> Task:
    """Return the task that a model was trained for."""
    return OF_MODELS[config.problem_type](config)


def reported_task(results: dict[str, Any]) -> Task:
    """Return the task of a run's results."""
    return OF_REPORTS[results["task"]](results)
