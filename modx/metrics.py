"""Metrics built on torchmetrics: sentiment metrics for scores in [-3, 3], expert load and routing entropy."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from ._checks import check, check_range, check_shapes

try:
    from torchmetrics import Metric
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score
    from torchmetrics.functional.regression import mean_absolute_error, pearson_corrcoef
    from torchmetrics.utilities import dim_zero_cat
except ImportError as error:
    raise ImportError("modx.metrics needs torchmetrics; install it with ``pip install modx[metrics]``.") from error


class ConstantInputWarning(UserWarning):
    """Warning that a metric is NaN because predictions or labels do not vary."""


def sentiment_metrics(preds: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compute the metrics that papers report for CMU-MOSI and CMU-MOSEI.

    - ``mae``: Mean absolute error, on the scale of the labels.
    - ``corr``: Pearson correlation. NaN, with a warning, if predictions or labels are constant.
    - ``acc2_has0``, ``f1_has0``: Two classes, positive where a score is >= 0.
    - ``acc2_non0``, ``f1_non0``: Two classes, positive where a score is > 0, over the rows whose label is not
      exactly 0. NaN, with a warning, if there are none.
    - ``acc5``, ``acc7``: Five or seven classes: scores are clamped to [-2, 2] or [-3, 3] and rounded, halves to even.

    Accuracies and F1 scores are in [0, 1]. F1 is averaged over both classes, weighted by their number of labels.

    Args:
        preds: Predicted scores, floating-point ``(N,)``.
        target: Labels, floating-point ``(N,)``.

    Returns:
        Eight scalars by name, in the order ``mae``, ``corr``, ``acc2_has0``, ``acc2_non0``, ``f1_has0``, ``f1_non0``,
        ``acc5``, ``acc7``. Their dtype is the wider of the two input dtypes, float32 or wider.

    Raises:
        TypeError: An argument is not a tensor.
        ValueError: There are no rows, the inputs are not floating-point ``(N,)`` of equal length, or a score is not
            finite.

    Warns:
        ConstantInputWarning: A result is NaN. The message gives the reason.

    Example:
        >>> scores = sentiment_metrics(torch.tensor([-1.2, 0.4, 2.6]), torch.tensor([-1.0, 0.0, 3.0]))
        >>> {name: round(score.item(), 4) for name, score in scores.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'mae': 0.3333, 'corr': 0.982, 'acc2_has0': 1.0, 'acc2_non0': 1.0, 'f1_has0': 1.0, 'f1_non0': 1.0,
         'acc5': 1.0, 'acc7': 1.0}
    """
    _check_scores("sentiment_metrics", preds=preds, target=target)
    check(len(preds), "sentiment_metrics", "preds and target of at least one row", 0, "call update before compute")
    dtype = torch.promote_types(torch.promote_types(preds.dtype, target.dtype), torch.float32)
    preds, target = preds.detach().to(dtype), target.detach().to(dtype)
    nonzero = target != 0
    acc2_has0, f1_has0 = _two_classes(preds >= 0, target >= 0)
    acc2_non0, f1_non0 = _two_classes(preds[nonzero] > 0, target[nonzero] > 0)
    scores = {
        "mae": mean_absolute_error(preds, target),
        "corr": _correlation(preds, target),
        "acc2_has0": acc2_has0,
        "acc2_non0": acc2_non0,
        "f1_has0": f1_has0,
        "f1_non0": f1_non0,
        "acc5": _rounded_accuracy(preds, target, limit=2),
        "acc7": _rounded_accuracy(preds, target, limit=3),
    }
    return {name: score.to(preds) for name, score in scores.items()}


class SentimentMetrics(Metric):
    """Accumulate predictions over batches and processes, then compute ``sentiment_metrics`` over all of them.

    ``update(preds, target)`` takes a batch of scores and labels, floating-point ``(N,)`` each. ``compute()`` returns
    the dict of ``sentiment_metrics`` for all rows so far. Errors and warnings are those of ``sentiment_metrics``.

    Example:
        >>> metric = SentimentMetrics()
        >>> metric.update(torch.tensor([-1.2, 0.4]), torch.tensor([-1.0, 0.0]))
        >>> metric.update(torch.tensor([2.6]), torch.tensor([3.0]))
        >>> metric.compute()["mae"]
        tensor(0.3333)
    """

    is_differentiable = False
    full_state_update = False
    preds: list[Tensor]
    target: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("preds", default=[], dist_reduce_fx="cat")
        self.add_state("target", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch of scores and labels."""
        _check_scores(self, preds=preds, target=target)
        self.preds.append(preds.detach())
        self.target.append(target.detach())

    def compute(self) -> dict[str, Tensor]:
        """Compute the metrics over all rows so far."""
        return sentiment_metrics(_concatenate(self.preds), _concatenate(self.target))


class ExpertLoad(Metric):
    """Average the weight that each expert receives from a router.

    ``update(router_weights, mask=None)`` takes weights ``(..., num_experts)`` that sum to 1 over the experts, and a
    bool mask ``(...)``, True where a token counts. ``compute()`` returns ``(num_experts,)``, which sums to 1, or NaN if
    no tokens were counted.

    Args:
        num_experts: Number of experts, at least 2.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``num_experts`` is below 2, or a shape or dtype of weights or mask does not match.

    Example:
        >>> metric = ExpertLoad(2)
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]), torch.tensor([True, False, True]))
        >>> metric.compute()
        tensor([0.6250, 0.3750])
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    tokens: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_range(self, 2, num_experts=num_experts)  # with one there is nothing to route
        self.num_experts = num_experts
        self.add_state("total", default=torch.zeros(num_experts), dist_reduce_fx="sum")
        self.add_state("tokens", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, router_weights: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch of router weights."""
        weights = _observed(self, self.num_experts, router_weights, mask)
        self.total += weights.sum(0, dtype=self.total.dtype)
        self.tokens += len(weights)

    def compute(self) -> Tensor:
        """Return the mean weight of each expert."""
        return self.total / self.tokens


class RoutingEntropy(Metric):
    """Average the normalized entropy of a router's weights: 0 if one expert gets all weight, 1 if all get the same.

    The entropy of a token is ``-sum_e w_e log w_e / log num_experts``, with 0 log 0 = 0. ``update`` takes the arguments
    of ``ExpertLoad.update``. ``compute()`` returns a scalar, or NaN if no tokens were counted.

    Args:
        num_experts: Number of experts, at least 2.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``num_experts`` is below 2, or a shape or dtype of weights or mask does not match.

    Example:
        >>> metric = RoutingEntropy(2)
        >>> metric.update(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    tokens: Tensor

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_range(self, 2, num_experts=num_experts)
        self.num_experts = num_experts
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("tokens", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, router_weights: Tensor, mask: Tensor | None = None) -> None:
        """Add a batch of router weights."""
        weights = _observed(self, self.num_experts, router_weights, mask)
        weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
        self.total -= torch.xlogy(weights, weights).sum(dtype=self.total.dtype)
        self.tokens += len(weights)

    def compute(self) -> Tensor:
        """Return the mean normalized entropy."""
        return self.total / self.tokens / math.log(self.num_experts)


def _two_classes(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return accuracy and weighted F1 of ``(N,)`` bool classes, NaN if N = 0."""
    if not len(target):
        _warn("acc2_non0 and f1_non0 are nan: every label is 0.")
        return torch.tensor(torch.nan), torch.tensor(torch.nan)
    classes = preds.long(), target.long()
    accuracy = multiclass_accuracy(*classes, num_classes=2, average="micro")
    return accuracy, multiclass_f1_score(*classes, num_classes=2, average="weighted")


def _rounded_accuracy(preds: Tensor, target: Tensor, *, limit: int) -> Tensor:
    """Return the accuracy over the ``2 limit + 1`` classes of clamped, rounded scores."""
    pred_class, true_class = (scores.clamp(-limit, limit).round().long() + limit for scores in (preds, target))
    return multiclass_accuracy(pred_class, true_class, num_classes=2 * limit + 1, average="micro")


def _correlation(preds: Tensor, target: Tensor) -> Tensor:
    constant = [
        name for name, scores in (("predictions", preds), ("labels", target)) if bool(scores.min() == scores.max())
    ]
    if constant:
        _warn(f"corr is nan: the {' and the '.join(constant)} are constant.")
        return torch.tensor(torch.nan)
    # float64: torchmetrics mistakes a float32 input of thousands of equal scores and one outlier for a constant one
    return pearson_corrcoef(preds.cpu().double(), target.cpu().double())


def _warn(reason: str) -> None:
    warnings.warn(reason, ConstantInputWarning, stacklevel=4)


def _concatenate(state: list[Tensor]) -> Tensor:
    return dim_zero_cat(state) if len(state) else torch.empty(0)


def _check_scores(owner: object, **scores: Tensor) -> None:
    """Check that scores are finite and floating-point ``(N,)``."""
    check_shapes(owner, **{name: (values, "N") for name, values in scores.items()})
    for name, values in scores.items():
        rows = (~values.isfinite()).nonzero().flatten().tolist()
        check(not rows, owner, f"finite {name} in every row", {row: values[row].item() for row in rows})


def _observed(owner: object, num_experts: int, router_weights: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weights of the tokens that count, ``(n, num_experts)``."""
    known = {"num_experts": num_experts}
    weights = (router_weights, "... num_experts")
    check_shapes(owner, known, router_weights=weights, mask=(mask, "bool ...?"))
    return router_weights.reshape(-1, num_experts) if mask is None else router_weights[mask]
