"""From scores to a row's figures: which epoch counts under a protocol, and what the seeds make of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from derl.evaluate.protocol import average, measure
from derl.evaluate.scores import Metrics
from derl.study.record import Record
from derl.train.recipes import LAST

PROTOCOLS = {
    "valid": "Protocol valid: one checkpoint a seed, chosen without the test split",
    "paper": "Protocol paper: for each metric the epoch best on the TEST split at r = 0.5, as LNLN does",
}
SELECTION_RATE = 0.5  # section 4.2: "the model tested with the missing rate r = 0.5 is selected"
SELECTED_BY = {  # LNLN's code reports from five models: the least MAE's also gives Corr, each Acc-2's its F1
    "mae": "mae",
    "corr": "mae",
    "acc2_has0": "acc2_has0",
    "f1_has0": "acc2_has0",
    "acc2_non0": "acc2_non0",
    "f1_non0": "acc2_non0",
    "acc5": "acc5",
    "acc7": "acc7",
}
MORE_IS_BETTER = {
    "mae": False,
    "corr": True,
    "acc2_has0": True,
    "acc2_non0": True,
    "f1_has0": True,
    "f1_non0": True,
    "acc5": True,
    "acc7": True,
}


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation over seeds of every metric, and each seed's own."""

    seeds: list[Metrics]

    @property
    def mean(self) -> Metrics:
        return average(self.seeds)

    @property
    def deviation(self) -> Metrics:
        """With n - 1 in the denominator; nan for one seed."""
        if len(self.seeds) < 2:
            return dict.fromkeys(self.seeds[0], math.nan)
        return {name: float(np.std([seed[name] for seed in self.seeds], ddof=1)) for name in self.seeds[0]}


def epoch_values(scores: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """A metric after every epoch, averaged over conditions.

    Args:
        scores: `(epochs, conditions, n)`.
        labels: `(n,)`.
        metric: its name; where it is not defined (the correlation of a constant) it counts as 0.
    """
    return np.nan_to_num([[row[metric] for row in epoch] for epoch in _measured(scores, labels)]).mean(1)


def chosen_epoch(record: Record, rates: Sequence[float] | None = None, metric: str | None = None) -> int:
    """The epoch that the validation split prefers, by the cell's own criterion unless told another."""
    options = record.facts["options"]
    rates = options["select_rates"] if rates is None else rates
    metric = metric or options["select_metric"]
    rows = [record.facts["rates"].index(rate) for rate in rates]
    if metric == LAST:
        return len(record.arrays["valid"]) - 1
    values = epoch_values(record.arrays["valid"][:, rows], record.arrays["labels_valid"], metric)
    return _best(values, metric)


def figures(record: Record, conditions: Sequence[str], protocol: str, split: str = "test") -> list[Metrics]:
    """The metrics of a cell under each condition, on the test split unless told otherwise.

    Under "valid" one epoch, the cell's chosen one, gives them all. Under "paper" a metric comes from the epoch that is
    best on this very split at r = 0.5, by the metric that ``SELECTED_BY`` names.
    """
    rows = [record.facts["conditions"].index(name) for name in conditions]
    scores, labels = record.arrays[split][:, rows], record.arrays[f"labels_{split}"]
    if protocol == "valid":
        return _measured(scores[chosen_epoch(record)][None], labels)[0]
    selection = record.facts["conditions"].index(f"r={SELECTION_RATE}")
    at_rate = record.arrays[split][:, [selection]]
    chosen = {metric: _best(epoch_values(at_rate, labels, metric), metric) for metric in set(SELECTED_BY.values())}
    measured = {epoch: _measured(scores[epoch][None], labels)[0] for epoch in set(chosen.values())}
    return [
        {metric: measured[chosen[selector]][row][metric] for metric, selector in SELECTED_BY.items()}
        for row in range(len(rows))
    ]


def _best(values: np.ndarray, metric: str) -> int:
    return int(np.argmax(values) if MORE_IS_BETTER[metric] else np.argmin(values))


def _measured(scores: np.ndarray, labels: np.ndarray) -> list[list[Metrics]]:
    target = torch.from_numpy(labels)
    return [[measure(torch.from_numpy(row), target) for row in epoch] for epoch in scores]
