"""Which epoch counts, by hand-made scores; the spread over seeds; the paired bootstrap against SciPy's."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from derl.evaluate.sentiment import SENTIMENT
from derl.study.ledger import Record
from derl.study.statistics import Statistics, cell_metrics, chosen_epoch, epoch_values, paired_differences
from modx.metrics import sentiment_metrics

RATES = [0.0, 0.5]


def make_record(select_rates=(0.5,), select_metric="mae"):
    """Three epochs: the second is best on validation at r = 0.5, the first at r = 0.

    On the test split the third is best on average, and the second at r = 0.5.
    """
    rng = np.random.default_rng(0)
    labels = {split: rng.normal(0, 1.5, 40).astype(np.float32) for split in ("train", "valid", "test")}
    noise = {
        "valid": np.array([[0.2, 0.9], [0.5, 0.3], [0.9, 0.9]]),
        "test": np.array([[0.9, 0.9], [1.9, 0.6], [0.1, 0.8]]),
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


def test_valid_reads_every_metric_from_one_epoch_and_paper_from_the_best_on_the_test_split_at_one_half():
    record = make_record()
    scores, labels = record.arrays["test"], torch.from_numpy(record.arrays["labels_test"])
    measured = [[SENTIMENT.measure(torch.from_numpy(row), labels) for row in epoch] for epoch in scores]
    averages = [np.mean([row["mae"] for row in epoch]) for epoch in measured]
    assert (np.argmin(averages), np.argmin([epoch[1]["mae"] for epoch in measured])) == (2, 1)
    assert cell_metrics(record, ["r=0.0", "r=0.5"], "valid") == measured[1]
    paper = cell_metrics(record, ["r=0.0", "r=0.5"], "paper")
    assert [row["mae"] for row in paper] == [row["mae"] for row in measured[1]]


def test_paper_takes_the_correlation_from_the_least_error_and_f1_from_the_best_accuracy():
    record = make_record()
    labels = torch.from_numpy(record.arrays["labels_test"])
    record.arrays["test"][2] = 3 * record.arrays["labels_test"]  # the best Corr, Acc-2 and F1, but the largest MAE
    measured = [SENTIMENT.measure(torch.from_numpy(epoch[1]), labels) for epoch in record.arrays["test"]]
    best = {name: max(range(3), key=lambda epoch: measured[epoch][name]) for name in ("mae", "corr", "acc2_non0")}
    assert best == {"mae": 2, "corr": 2, "acc2_non0": 2}
    paper = cell_metrics(record, ["r=0.5"], "paper")[0]
    assert {name: paper[name] for name in ("mae", "corr")} == {name: measured[1][name] for name in ("mae", "corr")}
    for name in ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0"):
        assert paper[name] == measured[2][name]
    for name in ("acc5", "acc7"):
        assert paper[name] == max(row[name] for row in measured)


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


def make_scores(n=120, repetitions=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-2.0, -1.0, 0.0, 0.6, 1.8], n)
    first = labels + rng.normal(0, 0.9, (repetitions, n))
    second = 0.6 * labels + rng.normal(0.2, 1.0, (repetitions, n))
    return first, second, labels


def averaged(scores, labels, name):
    rows = [sentiment_metrics(torch.from_numpy(row), torch.from_numpy(labels))[name].item() for row in scores]
    return np.mean(rows)


@pytest.mark.parametrize("name", ["mae", "corr", "acc2_non0"])
def test_a_difference_is_that_of_the_metrics(name):
    first, second, labels = make_scores()
    found = paired_differences(first, second, labels, resamples=10)[name]
    assert found.value == pytest.approx(averaged(first, labels, name) - averaged(second, labels, name), abs=1e-6)


@pytest.mark.parametrize("name", ["mae", "corr", "acc2_non0"])
def test_the_interval_of_a_difference_is_scipys(name):
    first, second, labels = make_scores(repetitions=1)

    def statistic(rows):
        return averaged(first[:, rows], labels[rows], name) - averaged(second[:, rows], labels[rows], name)

    theirs = stats.bootstrap(
        (np.arange(len(labels)),),
        statistic,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    ours = paired_differences(first, second, labels, resamples=4000)[name]
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.12 * width
    assert abs(ours.high - theirs.high) < 0.12 * width


def test_equal_models_do_not_differ_and_a_better_one_is_clear():
    first, second, labels = make_scores(n=600)
    assert not any(found.is_clear for found in paired_differences(first, first, labels).values())
    better = paired_differences(first, second, labels)
    assert better["mae"].high < 0
    assert better["corr"].low > 0


def test_draws_of_the_bootstrap_are_the_same_every_time():
    first, second, labels = make_scores()
    assert paired_differences(first, second, labels) == paired_differences(first, second, labels)


def test_the_difference_to_the_correlation_of_a_constant_is_not_defined():
    first, _, labels = make_scores()
    found = paired_differences(np.full_like(first, 0.3), first, labels, resamples=50)
    assert np.isnan(found["corr"].value)
    assert np.isnan(found["corr"].low)
    assert np.isfinite(found["mae"].value)
