"""The averaging optimizer against plain AdamW and a loop over float64 numbers."""

import copy

import pytest
import torch

from derl.train.averaging import AveragedAdamW


def make(decay, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64)) for _ in range(2)]
    unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    return weights, unused, AveragedAdamW([*weights, unused], average_decay=decay, lr=0.1)


def train(weights, optimizer, steps, start=0):
    for step in range(start, start + steps):
        for index, weight in enumerate(weights):
            weight.grad = torch.full_like(weight, 0.1 * step - index) + weight.detach() ** 2
        optimizer.step()


def test_trains_as_adamw_does():
    weights, _, optimizer = make(0.9)
    plain = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    train(weights, optimizer, 7)
    train(plain, torch.optim.AdamW(plain, lr=0.1), 7)
    for one, other in zip(weights, plain, strict=True):
        assert torch.equal(one, other)


def test_average_is_that_of_a_loop():
    weights, unused, optimizer = make(0.5)
    average = None
    for step in range(9):
        train(weights, optimizer, 1, start=step)
        decay = min(0.5, (2 + step) / (11 + step))
        now = [weight.tolist() for weight in weights]
        average = now if average is None else mix(average, now, decay)
    optimizer.eval()
    for weight, expected in zip(weights, average, strict=True):
        torch.testing.assert_close(weight.detach(), torch.tensor(expected, dtype=torch.float64))
    assert unused.tolist() == [1, 1]


def mix(old, new, decay):
    if isinstance(old, list):
        return [mix(a, b, decay) for a, b in zip(old, new, strict=True)]
    return decay * old + (1 - decay) * new


def test_showing_the_average_is_undone_exactly():
    weights, _, optimizer = make(0.9)
    train(weights, optimizer, 3)
    before = [weight.detach().clone() for weight in weights]
    for _ in range(3):
        optimizer.eval()
        optimizer.eval()
        assert not torch.equal(weights[0], before[0])
        optimizer.train()
        assert all(torch.equal(weight, kept) for weight, kept in zip(weights, before, strict=True))


@pytest.mark.parametrize("shown", [True, False])
def test_goes_on_from_a_state_dict_bit_by_bit(shown):
    weights, _, optimizer = make(0.9)
    train(weights, optimizer, 3)
    if shown:
        optimizer.eval()
    kept, state = [weight.detach().clone() for weight in weights], copy.deepcopy(optimizer.state_dict())
    train(weights, optimizer, 3, start=3)
    others, _, resumed = make(0.9, seed=1)
    with torch.no_grad():
        for other, weight in zip(others, kept, strict=True):
            other.copy_(weight)
    resumed.load_state_dict(state)
    train(others, resumed, 3, start=3)
    assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))
    optimizer.eval()
    resumed.eval()
    assert all(torch.equal(one, other) for one, other in zip(weights, others, strict=True))


def test_judging_before_the_first_step_changes_nothing():
    weights, _, optimizer = make(0.9)
    before = [weight.detach().clone() for weight in weights]
    optimizer.eval()
    assert all(torch.equal(weight, kept) for weight, kept in zip(weights, before, strict=True))
    train(weights, optimizer, 2)  # and Adam starts as it should
