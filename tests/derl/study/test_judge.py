"""Which epoch counts, by hand-made scores."""

import math

import numpy as np
import pytest
import torch
from derl.protocol import measure
from derl.study.judge import Statistics, chosen_epoch, epoch_values, figures
from derl.study.record import Record

RATES = [0.0, 0.5]


def make_record(select_rates=(0.5,), select_metric="mae"):
    """Three epochs: the second is best on validation at r = 0.5, the first at r = 0, the third on the test split."""
    rng = np.random.default_rng(0)
    labels = {split: rng.normal(0, 1.5, 40).astype(np.float32) for split in ("train", "valid", "test")}
    noise = {
        "valid": np.array([[0.2, 0.9], [0.5, 0.3], [0.9, 0.9]]),
        "test": np.array([[0.9, 0.9], [0.8, 0.8], [0.1, 0.1]]),
    }
    arrays = {
        split: np.array(
            [[labels[split] + size * rng.normal(0, 1, 40) for size in epoch] for epoch in noise[split]],
            dtype=np.float32,
        )
        for split in noise
    }
    arrays |= {f"labels_{split}": values for split, values in labels.items()}
    facts = {
        "conditions": ["r=0.0", "r=0.5"],
        "rates": RATES,
        "options": {"select_rates": list(select_rates), "select_metric": select_metric},
    }
    return Record(facts, arrays)


@pytest.mark.parametrize("metric", ["mae", "corr"])
def test_the_epoch_is_the_one_validation_prefers(metric):
    assert chosen_epoch(make_record((0.5,), metric)) == 1
    assert chosen_epoch(make_record((0.0,), metric)) == 0
    assert chosen_epoch(make_record((0.5,), metric), rates=[0.0]) == 0


def test_valid_reads_every_metric_from_one_epoch_and_paper_from_the_best_on_the_test_split():
    record = make_record()
    scores, labels = record.arrays["test"], torch.from_numpy(record.arrays["labels_test"])
    valid = figures(record, ["r=0.0", "r=0.5"], "valid")
    assert valid == [measure(torch.from_numpy(scores[1][index]), labels) for index in (0, 1)]
    paper = figures(record, ["r=0.0", "r=0.5"], "paper")
    for metric in valid[0]:
        values = [np.mean([measure(torch.from_numpy(row), labels)[metric] for row in epoch]) for epoch in scores]
        best = min(values) if metric == "mae" else max(values)
        assert np.mean([row[metric] for row in paper]) == pytest.approx(best)


def test_ties_go_to_the_first_epoch():
    record = make_record()
    record.arrays["valid"][2] = record.arrays["valid"][1]
    assert chosen_epoch(record) == 1


def test_the_correlation_of_a_constant_counts_as_none():
    labels = np.array([1.0, -1.0, 2.0], dtype=np.float32)
    assert epoch_values(np.zeros((1, 1, 3), dtype=np.float32), labels, "corr").tolist() == [0.0]


def test_statistics_are_numpys():
    seeds = [{"mae": 1.0, "corr": math.nan}, {"mae": 1.5, "corr": 0.5}]
    statistics = Statistics(seeds)
    assert statistics.mean["mae"] == 1.25
    assert statistics.deviation["mae"] == pytest.approx(np.std([1.0, 1.5], ddof=1))
    assert math.isnan(statistics.mean["corr"])
    assert math.isnan(Statistics(seeds[:1]).deviation["mae"])
