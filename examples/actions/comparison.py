"""What many trained models say: means, spreads, and paired differences with their intervals."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np

from actions.conditions import AVERAGED, LOST
from actions.ledger import Record

RESAMPLES = 10_000
MEANS = {"mean": AVERAGED, "frames lost": LOST}


class Difference(NamedTuple):
    """The mean of paired differences, and the ends of its 95 % interval, None for fewer than two pairs."""

    mean: float
    interval: tuple[float, float] | None


def score(record: Record, condition: str) -> float:
    """Return the accuracy under a condition, or the mean over those that ``MEANS`` names."""
    return mean(record.accuracy[one] for one in MEANS.get(condition, (condition,)))


def summarize(records: Sequence[Record], condition: str) -> str:
    """Return the mean, over folds and seeds, and its standard deviation over seeds."""
    seeds = {record.seed: [] for record in records}
    for record in records:
        seeds[record.seed].append(score(record, condition))
    means = [mean(scores) for scores in seeds.values()]
    return f"{mean(means):.1f}" + (f"±{stdev(means):.1f}" if len(means) > 1 else "")


def compare(first: Sequence[Record], second: Sequence[Record], condition: str) -> Difference | None:
    """Compare two models where both have the same seed and split, by a percentile bootstrap over these pairs."""
    others = {(record.seed, record.split): record for record in second}
    pairs = [(record, others.get((record.seed, record.split))) for record in first]
    differences = [score(one, condition) - score(other, condition) for one, other in pairs if other is not None]
    if not differences:
        return None
    if len(differences) == 1:
        return Difference(differences[0], None)
    draws = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Difference(mean(differences), (float(low), float(high)))
