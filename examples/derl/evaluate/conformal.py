"""Split-conformal prediction: how far an answer may be off, calibrated per condition of missing input.

A conformity score says how badly an answer fits a sample: ``|score - label|``, or 1 minus the probability of the true
class. With the scores of n validation samples, the quantile at a confidence level is the ceil((n + 1) level)-th
smallest. A new sample that is exchangeable with them stays within it with at least that probability (Vovk, Gammerman
and Shafer, 2005; Lei et al., 2018).
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.stats import betabinom, binom
from torch import Tensor

from derl.data.files import checksum, write_file
from derl.data.split import DataError

FILE = "calibration.json"
CONFIDENCE_LEVEL = 0.9
_PERCENTS = range(1, 100)


@dataclass(frozen=True)
class Calibration:
    """Quantiles of conformity scores per condition, at confidence levels 0.01, 0.02 .. 0.99.

    Attributes:
        samples: condition -> number of calibration samples.
        quantiles: condition -> 99 quantiles; infinite where there are too few samples for the level.

    Example:
        >>> calibration = Calibration.of({"text": torch.arange(1.0, 20.0), "audio": torch.arange(4.0)})
        >>> calibration.quantile(["text"], 0.9), calibration.quantile(["audio"], 0.9)
        (18.0, inf)
        >>> calibration.quantile(["text", "audio"], 0.5)  # the widest
        10.0
    """

    samples: dict[str, int]
    quantiles: dict[str, list[float]]

    @classmethod
    def of(cls, scores: Mapping[str, Tensor]) -> "Calibration":
        """Calibrate on conformity scores ``(n,)`` per condition; n may differ, and be 0."""
        return cls(
            {name: len(part) for name, part in scores.items()},
            {name: [conformal_quantile(part, percent / 100) for percent in _PERCENTS] for name, part in scores.items()},
        )

    def quantile(self, conditions: Iterable[str], confidence_level: float = CONFIDENCE_LEVEL) -> float:
        """Return the largest quantile of the conditions; one that was not calibrated has an infinite quantile.

        Raises:
            ValueError: ``confidence_level`` is not a whole percentage from 0.01 to 0.99.
        """
        index = check_level(confidence_level) - _PERCENTS.start
        return max(self.quantiles[name][index] if name in self.quantiles else math.inf for name in conditions)

    def save(self, folder: Path) -> None:
        """Write ``calibration.json`` beside a model's weights, atomically, with their checksums."""
        content = {
            "weights": _weights(folder),
            "samples": self.samples,
            "quantiles": {
                name: [value if math.isfinite(value) else None for value in part]
                for name, part in self.quantiles.items()
            },
        }
        write_file(folder / FILE, (json.dumps(content) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is damaged, or the weights beside it are not those that were calibrated.
        """
        remedy = "evaluate the run again, or delete the file to predict without intervals"
        try:
            content = json.loads(path.read_text())
            samples = {str(name): int(count) for name, count in content["samples"].items()}
            quantiles = {name: [_number(value) for value in content["quantiles"][name]] for name in samples}
            if any(len(part) != len(_PERCENTS) or part != sorted(part) for part in quantiles.values()):
                raise ValueError("quantiles that are not 99 in ascending order")
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise DataError(
                f"{path}: expected the quantiles that an evaluation saved, found {error}; {remedy}."
            ) from error
        if content.get("weights") != _weights(path.parent):
            raise DataError(f"{path}: expected the quantiles of the weights beside it, found others; {remedy}.")
        return cls(samples, quantiles)


def conformal_quantile(scores: Tensor, confidence_level: float) -> float:
    """Return the ceil((n + 1) confidence_level)-th smallest of n scores; infinity if n is too small for it.

    Raises:
        ValueError: ``confidence_level`` is not a whole percentage from 0.01 to 0.99.

    Example:
        >>> conformal_quantile(torch.tensor([3.0, 1.0, 2.0]), 0.5), conformal_quantile(torch.ones(8), 0.9)
        (2.0, inf)
    """
    rank = _rank(len(scores), confidence_level)
    return scores.sort().values[rank - 1].item() if rank <= len(scores) else math.inf


def coverage_law(count: int, tested: int, confidence_level: float) -> Any:
    """Return the distribution of the number of test samples within the quantile, if samples are exchangeable.

    With k the quantile's rank among n scores, it is beta-binomial with k and n + 1 - k.

    Args:
        count: n, calibration samples.
        tested: test samples.
        confidence_level: level of the quantile.

    Returns:
        A frozen distribution of SciPy.

    Example:
        >>> law = coverage_law(99, 200, 0.9)
        >>> law.mean().item(), law.ppf(0.025).item(), law.ppf(0.975).item()
        (180.0, 164.0, 192.0)
    """
    rank = _rank(count, confidence_level)
    if rank > count:  # the quantile is infinite
        return binom(tested, 1.0)
    return betabinom(tested, rank, count + 1 - rank)


def prediction_sets(probabilities: Tensor, quantile: float) -> Tensor:
    """Return the classes that may be true: those with 1 - p at most the quantile, and always the most probable one.

    Args:
        probabilities: ``(n, C)``.
        quantile: of 1 - p of the true class (Sadinle, Lei and Wasserman, 2019).

    Returns:
        ``(n, C)`` bool.

    Example:
        >>> prediction_sets(torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]]), 0.7)
        tensor([[ True, False, False],
                [ True,  True, False]])
    """
    most_probable = torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, probabilities.argmax(1, True), True)
    return (1 - probabilities <= quantile) | most_probable


def true_class_scores(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the conformity scores of class probabilities: 1 minus that of the true class.

    Args:
        probabilities: ``(n, C)``.
        labels: ``(n,)`` int64.
    """
    return 1 - probabilities.gather(1, labels[:, None]).squeeze(1)


def check_level(confidence_level: float) -> int:
    """Return a confidence level in percent.

    Raises:
        ValueError: It is not a whole percentage from 0.01 to 0.99.
    """
    percent = round(100 * confidence_level) if math.isfinite(confidence_level) else 0
    if percent not in _PERCENTS or abs(100 * confidence_level - percent) > 1e-6:
        raise ValueError(
            f"confidence_level expected 0.01, 0.02 .. or 0.99, got {confidence_level}; 0.9 is right nine times in ten."
        )
    return percent


def _rank(count: int, confidence_level: float) -> int:
    return -(-(count + 1) * check_level(confidence_level) // 100)  # in integers, since 0.07 * 100 is above 7


def _weights(folder: Path) -> dict[str, str]:
    """Return file -> checksum of a model's weights."""
    return {path.name: checksum(path) for path in sorted(folder.glob("*.safetensors"))}


def _number(value: Any) -> float:
    number = math.inf if value is None else float(value)
    if math.isnan(number) or number < 0:
        raise ValueError(f"a quantile of {value}")
    return number
