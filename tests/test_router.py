"""Router weights are a softmax at a positive temperature, over the experts present alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracles
from modx import Router

both_kinds = pytest.mark.parametrize("hidden_dim", [None, 5], ids=["linear", "mlp"])


@both_kinds
@pytest.mark.parametrize("present", [None, (True, False, True), (False, True, False), (False, False, False)])
def test_weighs_as_a_loop_does(hidden_dim, present):
    router = Router(4, 3, hidden_dim=hidden_dim, temperature=0.7, dtype=torch.float64)
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    weights = router(x, None if present is None else torch.tensor(present))
    expected = oracles.tensor([oracles.router(router, row, present) for row in x.flatten(0, 1).tolist()], 3)
    torch.testing.assert_close(weights.flatten(0, 1), expected, rtol=1e-12, atol=1e-12)


@both_kinds
def test_gradients_are_those_of_what_it_computes(hidden_dim):
    router = Router(4, 3, hidden_dim=hidden_dim, dtype=torch.float64)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    present = torch.tensor([[True] * 3, [False] * 3, [True, False, True], [False, True, False]] * 2)[:6]

    def run(x, *parameters):
        named = dict(zip(dict(router.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(router, named, (x, present))

    assert torch.autograd.gradcheck(run, (x, *router.parameters()))


@pytest.mark.parametrize("num_experts", [1, 4, 7])
def test_temperature_starts_at_one_over_the_number_of_experts(num_experts):
    router = Router(4, num_experts, dtype=torch.float64)
    assert router.temperature.item() == pytest.approx(1 / num_experts, rel=1e-12)


def test_temperature_starts_where_it_is_asked_to():
    assert Router(4, 3, temperature=2.5).temperature.item() == pytest.approx(2.5)


def test_temperature_stays_positive_however_far_it_is_pushed():
    router = Router(4, 3)
    optimizer = torch.optim.SGD([router.log_temperature], lr=1.0)
    for _ in range(50):
        optimizer.zero_grad()
        router.temperature.backward()  # towards minus infinity, were it free to go there
        optimizer.step()
    assert 0 < router.temperature.item() < 1 / 3


def test_a_low_temperature_picks_and_a_high_one_spreads():
    x = torch.randn(50, 4)
    router = Router(4, 3)
    with torch.no_grad():
        router.log_temperature.fill_(math.log(1e-6))
        assert (router(x).amax(-1) > 0.999).float().mean() > 0.95
        router.log_temperature.fill_(math.log(1e6))
        torch.testing.assert_close(router(x), torch.full((50, 3), 1 / 3), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    leading=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    num_experts=st.integers(1, 7),
    hidden_dim=st.sampled_from([None, 3]),
    masked=st.booleans(),
    scale=st.sampled_from([0.0, 1.0, 1e6]),
    seed=st.integers(0, 99),
)
def test_weights_sum_to_one_over_the_experts_present(leading, num_experts, hidden_dim, masked, scale, seed):
    torch.manual_seed(seed)
    router = Router(4, num_experts, hidden_dim=hidden_dim)
    x = (scale * torch.randn(*leading, 4)).requires_grad_()
    present = torch.rand(*leading, num_experts) > 0.5 if masked else None
    weights = router(x, present)
    present = torch.ones(*leading, num_experts, dtype=torch.bool) if present is None else present
    assert weights.shape == (*leading, num_experts)
    assert (weights >= 0).all()
    assert not weights[~present].any()
    torch.testing.assert_close(weights.sum(-1), present.any(-1).float())
    weights.square().sum().backward()
    for part in (x, *router.parameters()):
        assert part.grad.isfinite().all()


def test_an_absent_expert_is_as_good_as_not_there():
    router, rest = Router(4, 4, temperature=0.5), Router(4, 2, temperature=0.5)
    rest.logits.weight.data = router.logits.weight.data[[0, 2]]
    rest.logits.bias.data = router.logits.bias.data[[0, 2]]
    x = torch.randn(6, 4)
    weights = router(x, torch.tensor([True, False, True, False]))
    torch.testing.assert_close(weights[:, [0, 2]], rest(x))


def test_a_dominant_absent_expert_does_not_starve_the_others():
    router = Router(4, 3)
    router.logits.bias.data = torch.tensor([0.0, 1e30, 0.0])
    weights = router(torch.zeros(2, 4), torch.tensor([True, False, True]))
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.0, 0.5]] * 2))


@both_kinds
def test_takes_a_single_token_without_leading_dimensions(hidden_dim):
    router = Router(4, 3, hidden_dim=hidden_dim)
    x = torch.randn(2, 4)
    torch.testing.assert_close(router(x[0]), router(x)[0])


@both_kinds
def test_permuting_tokens_permutes_the_weights(hidden_dim):
    router = Router(4, 3, hidden_dim=hidden_dim, dtype=torch.float64)
    x, order = torch.randn(5, 4, dtype=torch.float64), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(router(x[order]), router(x)[order])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_refuses_a_temperature_that_is_not_positive_and_finite(temperature):
    with pytest.raises(ValueError, match=rf"a finite temperature >= 6\.104e-05, got {temperature}\."):
        Router(4, 3, temperature=temperature)


def test_refuses_to_weigh_no_experts():
    with pytest.raises(ValueError, match="Router expected num_experts >= 1, got 0"):
        Router(4, 0)
