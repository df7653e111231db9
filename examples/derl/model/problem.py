"""Problem: what a model predicts, and its loss, by ``config.problem_type``. A new kind takes one class and one line."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


class Problem(ABC):
    """A kind of label: how outputs become predictions, and how far these are from labels and from one another.

    Args:
        config: the model's configuration.
        label_mean, label_scale: buffers of the model, ``()``: mean and standard deviation that a head's outputs lack.

    Attributes:
        num_outputs: outputs of the head; None: one per class of the configuration.
    """

    num_outputs: ClassVar[int | None] = None

    def __init__(self, config: Any, label_mean: Tensor, label_scale: Tensor) -> None:
        self.config, self.label_mean, self.label_scale = config, label_mean, label_scale

    @abstractmethod
    def fit(self, labels: Tensor) -> None:
        """Set what depends on the labels of the training split, ``(n,)``."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Turn the head's outputs ``(B, num_outputs)`` into predictions: scores ``(B,)``, or logits of classes."""

    @abstractmethod
    def fill_in(self, predictions: Tensor, there: Tensor) -> Tensor:
        """Answer samples of which nothing is there, bool ``(B,)``, by what the training labels alone say."""

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """Return labels in the dtype that losses take."""

    @abstractmethod
    def groups(self, labels: Tensor) -> Tensor:
        """Return the class of each label, or its side of the mean that a head lacks: 1 above, 0 below, -1 neither."""

    @abstractmethod
    def errors(self, predictions: Tensor, labels: Tensor, reduction: str = "none") -> Tensor:
        """Return the loss of each sample, ``(B,)``, or its mean if ``reduction`` is "mean"."""

    def squared_errors(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Return squared errors of standardized scores whatever the loss, or the errors of classes, ``(B,)``."""
        return self.errors(predictions, labels)

    @abstractmethod
    def distance(self, predictions: Tensor, others: Tensor) -> Tensor:
        """Return the mean squared distance between two answers to each sample."""


class Numbers(Problem):
    """A number per sample; unless it is sentiment, the head predicts it standardized."""

    num_outputs = 1

    def fit(self, labels: Tensor) -> None:
        if self.config.sentiment:
            return
        self.label_mean.copy_(labels.double().mean())
        scale = labels.double().std(correction=0)
        self.label_scale.copy_(scale if scale > 0 else 1.0)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.squeeze(-1) * self.label_scale + self.label_mean

    def fill_in(self, predictions: Tensor, there: Tensor) -> Tensor:
        """Answer by the mean of the training labels."""
        return torch.where(there, predictions, self.config.mean_label)

    def targets(self, labels: Tensor) -> Tensor:
        return labels

    def groups(self, labels: Tensor) -> Tensor:
        return torch.where(labels == self.label_mean, -1, (labels > self.label_mean).long())

    def errors(self, predictions: Tensor, labels: Tensor, reduction: str = "none") -> Tensor:
        """Return squared or absolute errors of standardized scores."""
        criterion = F.mse_loss if self.config.task_loss == "mse" else F.l1_loss
        return criterion(predictions / self.label_scale, labels / self.label_scale, reduction=reduction)

    def squared_errors(self, predictions: Tensor, labels: Tensor) -> Tensor:
        return ((predictions - labels) / self.label_scale).square()

    def distance(self, predictions: Tensor, others: Tensor) -> Tensor:
        return F.mse_loss(predictions / self.label_scale, others / self.label_scale)


class Classes(Problem):
    """One of several classes per sample; a prediction is a logit for each."""

    def fit(self, labels: Tensor) -> None:
        counts = labels.long().bincount(minlength=self.config.num_labels)
        self.config.class_shares = (counts / len(labels)).tolist()

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs

    def fill_in(self, predictions: Tensor, there: Tensor) -> Tensor:
        """Answer by the shares of the classes in training."""
        count = self.config.num_labels
        shares = predictions.new_tensor(self.config.class_shares or [1 / count] * count)
        return torch.where(there[:, None], predictions, shares.log())

    def targets(self, labels: Tensor) -> Tensor:
        return labels.long()

    def groups(self, labels: Tensor) -> Tensor:
        return labels.long()

    def errors(self, predictions: Tensor, labels: Tensor, reduction: str = "none") -> Tensor:
        """Return cross-entropies."""
        return F.cross_entropy(predictions, self.targets(labels), reduction=reduction)

    def distance(self, predictions: Tensor, others: Tensor) -> Tensor:
        """Return the mean squared distance of probabilities."""
        return (predictions.softmax(-1) - others.softmax(-1)).square().sum(-1).mean()


PROBLEMS: dict[str, type[Problem]] = {"regression": Numbers, "single_label_classification": Classes}
