"""The paired bootstrap against SciPy's and against plain metrics."""

import numpy as np
import pytest
import torch
from scipy import stats

from derl.study.bootstrap import paired_differences
from modx.metrics import sentiment_metrics


def make(n=120, repetitions=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-2.0, -1.0, 0.0, 0.6, 1.8], n)
    first = labels + rng.normal(0, 0.9, (repetitions, n))
    second = 0.6 * labels + rng.normal(0.2, 1.0, (repetitions, n))
    return first, second, labels


def averaged(scores, labels, name):
    rows = [sentiment_metrics(torch.from_numpy(row), torch.from_numpy(labels))[name].item() for row in scores]
    return np.mean(rows)


@pytest.mark.parametrize("name", ["mae", "corr", "acc2_non0"])
def test_the_difference_is_that_of_the_metrics(name):
    first, second, labels = make()
    found = paired_differences(first, second, labels, resamples=10)[name]
    assert found.value == pytest.approx(averaged(first, labels, name) - averaged(second, labels, name), abs=1e-6)


@pytest.mark.parametrize("name", ["mae", "corr", "acc2_non0"])
def test_the_interval_is_scipys(name):
    first, second, labels = make(repetitions=1)

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
    first, second, labels = make(n=600)
    assert not any(found.is_clear for found in paired_differences(first, first, labels).values())
    better = paired_differences(first, second, labels)
    assert better["mae"].high < 0
    assert better["corr"].low > 0


def test_draws_are_the_same_every_time():
    first, second, labels = make()
    assert paired_differences(first, second, labels) == paired_differences(first, second, labels)


def test_the_correlation_of_a_constant_is_not_defined():
    first, _, labels = make()
    found = paired_differences(np.full_like(first, 0.3), first, labels, resamples=50)
    assert np.isnan(found["corr"].value)
    assert np.isnan(found["corr"].low)
    assert np.isfinite(found["mae"].value)
