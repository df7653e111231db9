"""From scores to metrics: the epoch that a protocol selects, and the spread over seeds and samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from derl.evaluate.protocol import average
from derl.evaluate.sentiment import SENTIMENT
from derl.evaluate.task import Metrics
from derl.study.ledger import Record
from derl.train.recipes import LAST

PROTOCOLS = {
    "valid": "Protocol valid: one checkpoint per seed, selected without the test split",
    "paper": "Protocol paper: for each metric, the best epoch on the TEST split at r = 0.5, as in LNLN",
}
SELECTION_RATE = 0.5  # section 4.2: "the model tested with the missing rate r = 0.5 is selected"
SELECTED_BY = {  # LNLN's code reports five models: that of the lowest MAE also gives Corr, that of each Acc-2 its F1
    "mae": "mae",
    "corr": "mae",
    "acc2_has0": "acc2_has0",
    "f1_has0": "acc2_has0",
    "acc2_non0": "acc2_non0",
    "f1_non0": "acc2_non0",
    "acc5": "acc5",
    "acc7": "acc7",
}
RESAMPLES = 10_000  # bootstrap draws


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation over seeds of every metric, and the per-seed values."""

    seeds: list[Metrics]

    @property
    def mean(self) -> Metrics:
        return average(self.seeds)

    @property
    def deviation(self) -> Metrics:
        return {name: deviation([seed[name] for seed in self.seeds]) for name in self.seeds[0]}


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation with n - 1 in the denominator; NaN for a single value.

    Example:
        >>> deviation([1.0, 2.0, 3.0])
        1.0
    """
    if len(values) < 2:
        return math.nan
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def epoch_values(scores: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric after every epoch, averaged over conditions.

    Args:
        scores: ``(epochs, conditions, n)``.
        labels: ``(n,)``.
        metric: name of the metric. Where it is undefined (the correlation of a constant), it counts as 0.
    """
    return np.nan_to_num([[row[metric] for row in epoch] for epoch in _measured(scores, labels)]).mean(1)


def chosen_epoch(record: Record, rates: Sequence[float] | None = None, metric: str | None = None) -> int:
    """Return the epoch that the validation split selects, by the cell's own criterion unless another is given.

    Without rates to select at, it is the last epoch.
    """
    options = record.facts["options"]
    rates = options["select_rates"] if rates is None else rates
    metric = metric or options["select_metric"]
    rows = [record.facts["rates"].index(rate) for rate in rates]
    if metric == LAST or not rows:
        return len(record.arrays["valid"]) - 1
    values = epoch_values(record.arrays["valid"][:, rows], record.arrays["labels_valid"], metric)
    return _best(values, metric)


def selected_epochs(
    record: Record, protocol: str, split: str = "test", rates: Sequence[float] | None = None
) -> dict[str, int]:
    """Return the epoch from which a protocol takes each metric.

    Args:
        record: the record of a cell.
        protocol: "valid": one epoch for all metrics, the one that ``chosen_epoch`` selects; "paper": for each metric
            the epoch that is best on ``split``, by the metric in ``SELECTED_BY``.
        split: the split that protocol "paper" selects on, and reports.
        rates: the missing rates over which the selecting metric is averaged; empty: the last epoch. Default: the
            cell's own under "valid", r = 0.5 under "paper".
    """
    if protocol == "valid":
        return dict.fromkeys(SELECTED_BY, chosen_epoch(record, rates))
    rates = (SELECTION_RATE,) if rates is None else rates
    if not rates:
        return dict.fromkeys(SELECTED_BY, len(record.arrays[split]) - 1)
    rows = [record.facts["conditions"].index(f"r={rate}") for rate in rates]
    scores, labels = record.arrays[split][:, rows], record.arrays[f"labels_{split}"]
    best = {metric: _best(epoch_values(scores, labels, metric), metric) for metric in set(SELECTED_BY.values())}
    return {metric: best[selector] for metric, selector in SELECTED_BY.items()}


def cell_metrics(
    record: Record,
    conditions: Sequence[str],
    protocol: str,
    split: str = "test",
    rates: Sequence[float] | None = None,
) -> list[Metrics]:
    """Return the metrics of a cell under each condition, each from the epoch in ``selected_epochs``."""
    rows = [record.facts["conditions"].index(name) for name in conditions]
    scores, labels = record.arrays[split][:, rows], record.arrays[f"labels_{split}"]
    selected = selected_epochs(record, protocol, split, rates)
    measured = {epoch: _measured(scores[epoch][None], labels)[0] for epoch in set(selected.values())}
    return [{metric: measured[epoch][row][metric] for metric, epoch in selected.items()} for row in range(len(rows))]


def _best(values: np.ndarray, metric: str) -> int:
    return int(np.argmin(values) if metric == "mae" else np.argmax(values))


def _measured(scores: np.ndarray, labels: np.ndarray) -> list[list[Metrics]]:
    target = torch.from_numpy(labels)
    return [[SENTIMENT.measure(torch.from_numpy(row), target) for row in epoch] for epoch in scores]


@dataclass(frozen=True)
class Difference:
    """A difference, its 95% interval, and whether the interval excludes 0."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        return self.low > 0 or self.high < 0


def paired_differences(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Return differences first - second of MAE, Corr and Acc-2 (non0), averaged over repetitions.

    Test samples are drawn with replacement, the same for both models and for all repetitions (seeds, missing rates).
    The interval is the percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). It covers
    the choice of test samples, not of seeds.

    Args:
        first, second: scores ``(repetitions, n)``; each repetition has the same condition in both.
        labels: ``(n,)``.
        resamples: number of bootstrap draws.
        seed: seed of the draws.

    Returns:
        "mae", "corr" and "acc2_non0", each a ``Difference``; NaN where a metric is undefined, e.g. the correlation of a
        constant.

    Example:
        >>> labels = np.array([-1.0, 1.0, 2.0, -2.0])
        >>> paired_differences(labels[None], labels[None], labels, resamples=100)["mae"]
        Difference(value=0.0, low=0.0, high=0.0)
    """
    n = len(labels)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = np.concatenate([np.ones((1, n)), counts]).astype(np.float64)  # the first row is the split itself
    found = {}
    theirs = _statistics(second, labels, weights)
    for name, values in _statistics(first, labels, weights).items():
        differences = values - theirs[name]
        finite = differences[1:][np.isfinite(differences[1:])]
        low, high = np.percentile(finite, [2.5, 97.5]) if np.isfinite(differences[0]) else (np.nan, np.nan)
        found[name] = Difference(float(differences[0]), float(low), float(high))
    return found


def _statistics(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return every metric for each weighting of the samples ``(draws, n)``, averaged over repetitions."""
    scores, labels = scores.astype(np.float64), labels.astype(np.float64)
    centered, of_mean = scores - scores.mean(1, keepdims=True), labels - labels.mean()  # avoids cancellation
    n = weights.sum(1, keepdims=True)
    nonzero = (labels != 0).astype(np.float64)
    right = ((scores > 0) == (labels > 0)) * nonzero
    mean, of_label = weights @ centered.T / n, (weights @ of_mean)[:, None] / n
    covariance = weights @ (centered * of_mean).T / n - mean * of_label
    variance = weights @ (centered**2).T / n - mean**2
    of_labels = (weights @ of_mean**2)[:, None] / n - of_label**2
    constant = scores.std(1) <= 1e-7 * np.abs(scores).max(1)  # constant to float32 precision, so Corr is undefined
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = np.where(constant, np.nan, covariance / np.sqrt(variance * of_labels))
        acc2 = weights @ right.T / (weights @ nonzero)[:, None]
    return {
        "mae": (weights @ np.abs(scores - labels).T / n).mean(1),
        "corr": corr.mean(1),
        "acc2_non0": acc2.mean(1),
    }
