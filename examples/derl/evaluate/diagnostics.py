"""Diagnostics that show a collapsed model, one whose answers are nearly all the same."""

import torch
from torch import Tensor

from derl.data.classes import seven_classes
from derl.evaluate.scores import Predicted
from modx.metrics import ExpertLoad, RoutingEntropy

COLLAPSED_SPREAD, COLLAPSED_SHARE = 0.1, 0.95


def diagnose(predicted: Predicted, labels: Tensor) -> dict[str, float]:
    """Measure how varied the answers are.

    - ``spread``: standard deviation of the scores over that of the labels.
    - ``commonest_class``, ``commonest_share``: the most frequent of the seven classes among the answers, and its share.
    - ``fusion_entropy``: entropy of the modality router's weights, 1 if all views have equal weight.
    - ``expert_entropy``: entropy of the experts' router weights, averaged over modalities.
    """
    scores = predicted.scores
    classes = (seven_classes(scores) + 3).long().bincount(minlength=7)
    found = {
        "spread": (scores.std(correction=0) / labels.std(correction=0)).item(),
        "commonest_class": classes.argmax().item() - 3.0,
        "commonest_share": classes.max().item() / len(scores),
    }
    if predicted.fusion_weights is not None:
        found["fusion_entropy"] = entropy(predicted.fusion_weights)
    if predicted.expert_weights:
        entropies = [entropy(weights) for weights in predicted.expert_weights.values()]
        found["expert_entropy"] = sum(entropies) / len(entropies)
    return found


def is_collapsed(diagnosis: dict[str, float]) -> bool:
    """Return whether nearly all answers are in one class, or the scores hardly vary."""
    return diagnosis["spread"] < COLLAPSED_SPREAD or diagnosis["commonest_share"] > COLLAPSED_SHARE


def entropy(weights: Tensor) -> float:
    """Return the mean normalized entropy of router weights ``(..., E)``; 1 if E is 1."""
    if weights.shape[-1] < 2:
        return 1.0
    metric = RoutingEntropy(weights.shape[-1])
    metric.update(weights)
    return metric.compute().item()


def load(weights: Tensor) -> list[float]:
    """Return the mean weight of each expert."""
    if weights.shape[-1] < 2:
        return torch.ones(weights.shape[-1]).tolist()
    metric = ExpertLoad(weights.shape[-1])
    metric.update(weights)
    shares: list[float] = metric.compute().tolist()
    return shares
