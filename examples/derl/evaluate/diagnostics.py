"""Diagnostics that show a collapsed model, one whose answers are nearly all the same."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from derl.evaluate.scores import Predicted
from derl.evaluate.task import Task
from modx.metrics import ExpertLoad, RoutingEntropy

COLLAPSED_SPREAD, COLLAPSED_SHARE = 0.1, 0.95


def diagnose(predicted: Predicted, labels: Tensor, task: Task) -> dict[str, float | str]:
    """Measure how varied the answers are.

    - ``spread``: standard deviation of the scores over that of the labels, for numbers.
    - ``commonest_class``, ``commonest_share``: the most frequent class among the answers, and its share; for sentiment,
      of the seven.
    - ``fusion_entropy``: entropy of the modality router's weights, 1 if all views have equal weight.
    - ``expert_entropy``: entropy of the experts' router weights, averaged over the modalities of which anything is
      there.

    An entropy of which nothing was routed is left out.
    """
    found = task.variety(predicted.scores, labels)
    fusion = [] if predicted.fusion_weights is None else [predicted.fusion_weights]
    for name, weights in (("fusion_entropy", fusion), ("expert_entropy", predicted.expert_weights.values())):
        entropies = [value for value in map(entropy, weights) if not math.isnan(value)]
        if entropies:
            found[name] = sum(entropies) / len(entropies)
    return found


def is_collapsed(diagnosis: Mapping[str, Any]) -> bool:
    """Return whether nearly all answers are in one class, or the scores hardly vary."""
    return diagnosis.get("spread", 1.0) < COLLAPSED_SPREAD or diagnosis.get("commonest_share", 0.0) > COLLAPSED_SHARE


def entropy(weights: Tensor) -> float:
    """Return the mean normalized entropy of router weights ``(..., E)``; 1 if E is 1, NaN if nothing was routed."""
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
