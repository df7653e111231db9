"""Whether one model is better than another on the samples of a test split, by a paired bootstrap."""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """A difference, its 95 % interval, and whether that leaves out 0."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        return self.low > 0 or self.high < 0


def paired_differences(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Difference]:
    """Differences first - second of MAE, Corr and Acc-2 (non0), averaged over repetitions.

    Test samples are drawn with replacement, the same for both models and for all repetitions (seeds, missing
    rates), and the interval is the percentile one (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
    It speaks of other test samples, not of other seeds.

    Args:
        first, second: `(repetitions, n)` scores; repetition by repetition the same condition.
        labels: `(n,)`.
        resamples: how many draws.
        seed: of the draws.

    Returns:
        "mae", "corr" and "acc2_non0", each a `Difference`; nan where a metric is not defined, as the correlation of a
        constant.

    Example:
        >>> labels = np.array([-1.0, 1.0, 2.0, -2.0])
        >>> paired_differences(labels[None], labels[None], labels, resamples=100)["mae"]
        Difference(value=0.0, low=0.0, high=0.0)
    """
    n = len(labels)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    weights = np.concatenate([np.ones((1, n)), counts]).astype(np.float64)  # the first row: the split itself
    found = {}
    theirs = _statistics(second, labels, weights)
    for name, values in _statistics(first, labels, weights).items():
        differences = values - theirs[name]
        finite = differences[1:][np.isfinite(differences[1:])]
        low, high = np.percentile(finite, [2.5, 97.5]) if np.isfinite(differences[0]) else (np.nan, np.nan)
        found[name] = Difference(float(differences[0]), float(low), float(high))
    return found


def _statistics(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric of every weighting of the samples `(draws, n)`, averaged over repetitions."""
    scores, labels = scores.astype(np.float64), labels.astype(np.float64)
    centred, of_mean = scores - scores.mean(1, keepdims=True), labels - labels.mean()  # so that little cancels
    n = weights.sum(1, keepdims=True)
    nonzero = (labels != 0).astype(np.float64)
    right = ((scores > 0) == (labels > 0)) * nonzero
    mean, of_label = weights @ centred.T / n, (weights @ of_mean)[:, None] / n
    covariance = weights @ (centred * of_mean).T / n - mean * of_label
    variance = weights @ (centred**2).T / n - mean**2
    of_labels = (weights @ of_mean**2)[:, None] / n - of_label**2
    constant = scores.std(1) <= 1e-7 * np.abs(scores).max(1)  # to float32; its correlation is not defined
    with np.errstate(invalid="ignore", divide="ignore"):
        corr = np.where(constant, np.nan, covariance / np.sqrt(variance * of_labels))
        acc2 = weights @ right.T / (weights @ nonzero)[:, None]
    return {
        "mae": (weights @ np.abs(scores - labels).T / n).mean(1),
        "corr": corr.mean(1),
        "acc2_non0": acc2.mean(1),
    }
