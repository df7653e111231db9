"""Bursts follow the chain of Gilbert and Elliott."""

import math

import pytest
import torch
from draws import assert_binomial, ones, runs, seeded
from scipy import stats

from modx.missing import drop_bursts

CHAINS = [(0.1, 1.0), (0.5, 1.0), (0.5, 1.2), (0.3, 4.0), (0.7, 10.0), (0.75, 3.0), (0.02, 2.0)]


@pytest.mark.parametrize(("rate", "mean_length"), CHAINS)
def test_bursts_have_the_rate_and_the_mean_length(rate, mean_length):
    dropped = ~drop_bursts(ones(1, 200_000), rate, mean_length=mean_length, generator=seeded())
    bursts, gaps = runs(dropped[0]), runs(~dropped[0])
    mean_gap = mean_length * (1 - rate) / rate
    for lengths, mean in ((bursts, mean_length), (gaps, mean_gap)):
        standard_error = math.sqrt(mean * (mean - 1) / len(lengths)) + 1e-4  # of a geometric length
        assert abs(sum(lengths) / len(lengths) - mean) < 4 * standard_error
    assert abs(dropped.float().mean() - rate) < 0.02


@pytest.mark.parametrize(("rate", "mean_length"), [(0.5, 1.2), (0.3, 4.0)])
def test_burst_lengths_are_geometric(rate, mean_length):
    dropped = ~drop_bursts(ones(1, 100_000), rate, mean_length=mean_length, generator=seeded())
    lengths = torch.tensor(runs(dropped[0]))
    for length in (1, 2, 3):
        expected = float(stats.geom.pmf(length, 1 / mean_length))
        assert_binomial(int((lengths == length).sum()), len(lengths), expected)


@pytest.mark.parametrize(("rate", "mean_length"), CHAINS)
def test_bursts_are_stationary_from_the_first_real_frame(rate, mean_length):
    mask = ones(20_000, 7)
    mask[:, 0] = False
    dropped = mask & ~drop_bursts(mask, rate, mean_length=mean_length, generator=seeded())
    assert not dropped[:, 0].any()
    for column in dropped[:, 1:].T:
        assert_binomial(int(column.sum()), len(column), rate)


def test_a_burst_goes_on_across_padding():
    mask = torch.arange(60_000)[None] % 3 == 0
    dropped = mask & ~drop_bursts(mask, 0.3, mean_length=4.0, generator=seeded())
    bursts = runs(dropped[mask])
    assert abs(sum(bursts) / len(bursts) - 4) < 0.3


def test_the_k_th_real_frame_fares_alike_wherever_padding_stands():
    left = torch.arange(50).expand(4, 50) >= 20
    keep_left, keep_right = (drop_bursts(mask, 0.4, mean_length=3, generator=seeded()) for mask in (left, left.flip(1)))
    assert torch.equal(keep_left[:, 20:], keep_right[:, :30])


def test_bursts_of_one_frame_never_touch():
    dropped = ~drop_bursts(ones(50, 200), 0.4, mean_length=1, generator=seeded())
    assert not (dropped[:, 1:] & dropped[:, :-1]).any()


def test_mean_length_of_independence_gives_independence():
    dropped = ~drop_bursts(ones(100, 201), 0.6, mean_length=1 / 0.4, generator=seeded())
    pairs = dropped[:, :-1:2] & dropped[:, 1::2]
    assert_binomial(int(pairs.sum()), pairs.numel(), 0.36)


@pytest.mark.parametrize("length", [1, 2, 7, 9, 99])
def test_the_boundary_of_the_feasible_rates_is_feasible(length):
    rate = length / (length + 1)
    for given_as in (rate, torch.tensor([rate, rate])):
        dropped = ~drop_bursts(ones(2, 300), given_as, mean_length=length, generator=seeded())
        assert (dropped[:, 1:] | dropped[:, :-1]).all()  # a good frame is always followed by a bad one


def test_a_chain_that_does_not_exist_is_refused():
    message = r"rate <= mean_length / \(mean_length \+ 1\) or rate = 1, got \[\(0\.8, 3\.0\)\]; .*raise mean_length to"
    with pytest.raises(ValueError, match=message):
        drop_bursts(ones(2, 3), torch.tensor([0.1, 0.8], dtype=torch.float64), mean_length=3)


@pytest.mark.parametrize("mean_length", [0.5, -1, math.inf, math.nan])
def test_a_burst_shorter_than_a_frame_or_endless_is_refused(mean_length):
    with pytest.raises(ValueError, match=r"drop_bursts expected a finite mean_length >= 1, got"):
        drop_bursts(ones(2, 3), 0.1, mean_length=mean_length)


def test_each_sample_has_its_own_mean_length():
    mask = torch.rand(4, 300, generator=seeded()) < 0.8
    rates, lengths = torch.tensor([0.1, 0.5, 0.9, 1.0]), torch.tensor([1.0, 4.0, 30.0, 2.0])
    keep = drop_bursts(mask, rates, mean_length=lengths, generator=seeded())
    for row, (rate, length) in enumerate(zip(rates.tolist(), lengths.tolist(), strict=True)):
        alone = drop_bursts(mask, rate, mean_length=length, generator=seeded())
        assert torch.equal(keep[row], alone[row])


def test_a_mean_length_of_another_shape_or_without_a_chain_is_refused():
    with pytest.raises(ValueError, match=r"drop_bursts expected mean_length of shape \(B=2,\), got \(3,\)"):
        drop_bursts(ones(2, 3), 0.1, mean_length=torch.full((3,), 2.0))
    for wrong in (0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"drop_bursts expected a finite mean_length >= 1, got {wrong}"):
            drop_bursts(ones(2, 3), 0.1, mean_length=torch.tensor([2.0, wrong]))
    with pytest.raises(ValueError, match=r"or rate = 1, got \[\(0\.75, 2\.0\)\]; lower the rate"):
        drop_bursts(ones(2, 3), 0.75, mean_length=torch.tensor([5.0, 2.0]))
