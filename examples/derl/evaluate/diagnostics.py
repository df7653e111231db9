"""Figures that name a collapse: a model that answers much the same to everything."""

import torch
from torch import Tensor

from derl.data.classes import seven_classes
from derl.evaluate.scores import Predicted
from modx.metrics import ExpertLoad, RoutingEntropy

COLLAPSED_SPREAD, COLLAPSED_SHARE = 0.1, 0.95


def diagnose(predicted: Predicted, labels: Tensor) -> dict[str, float]:
    """How varied the answers are.

    - `spread`: standard deviation of the scores over that of the labels.
    - `commonest_class`, `commonest_share`: of the seven classes the one answered most, and its share.
    - `fusion_entropy`: of the modality router, 1 if all views weigh the same.
    - `expert_entropy`: of the experts' routers, the mean over modalities.
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
    """Whether nearly every answer is the same, or the answers hardly vary."""
    return diagnosis["spread"] < COLLAPSED_SPREAD or diagnosis["commonest_share"] > COLLAPSED_SHARE


def entropy(weights: Tensor) -> float:
    """Mean normalised entropy of router weights `(..., E)`; 1 if there is nothing to choose."""
    if weights.shape[-1] < 2:
        return 1.0
    metric = RoutingEntropy(weights.shape[-1])
    metric.update(weights)
    return metric.compute().item()


def load(weights: Tensor) -> list[float]:
    """Mean weight of every expert."""
    if weights.shape[-1] < 2:
        return torch.ones(weights.shape[-1]).tolist()
    metric = ExpertLoad(weights.shape[-1])
    metric.update(weights)
    shares: list[float] = metric.compute().tolist()
    return shares
