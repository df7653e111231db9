"""Any number of classes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from derl.evaluate.task import Column, Metrics, Task

ACCURACY, MACRO = Column("accuracy", ("accuracy",)), Column("macro F1", ("f1_macro",))


class Classification(Task):
    """One of several classes per sample; the answer is the class of the largest logit.

    Args:
        classes: names of the classes, in the order of the logits.
    """

    name = "classification"
    what = "Multimodal classification"
    columns = (ACCURACY, MACRO, Column("weighted F1", ("f1_weighted",)))
    compared = (ACCURACY, MACRO)
    brief = columns
    note = (
        "Macro F1 is the mean over classes, weighted F1 that weighted by their number of labels; a class without "
        "labels and answers does not count."
    )

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)

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
