"""A bank of experts sums its two-layer networks by weight, and each starts as two nn.Linear do."""

import pytest
import torch
from scipy import stats
from torch import nn

import oracles
from modx import Experts


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "every weight 1"])
def test_sums_its_networks_as_a_loop_does(activation, weighted):
    experts = Experts(3, 4, 5, 2, activation=activation, dtype=torch.float64)
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    weights = torch.randn(2, 3, 3, dtype=torch.float64) if weighted else None
    output = experts(x, weights)
    for sample in range(2):
        for token in range(3):
            outputs = [
                oracles.mlp(x[sample, token].tolist(), oracles.network(experts, e), activation) for e in range(3)
            ]
            weight = weights[sample, token].tolist() if weighted else [1.0] * 3
            expected = torch.tensor(oracles.scaled_sum(weight, outputs, 2), dtype=torch.float64)
            torch.testing.assert_close(output[sample, token], expected, rtol=1e-12, atol=1e-12)


def test_one_expert_is_two_linear_layers():
    experts = Experts(1, 4, 5, 2, dtype=torch.float64)
    layers = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2)).double()
    layers[0].weight.data, layers[0].bias.data = experts.w1[0].data, experts.b1[0].data
    layers[2].weight.data, layers[2].bias.data = experts.w2[0].data.T, experts.b2[0].data
    x = torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(experts(x), layers(x), rtol=1e-12, atol=1e-12)


def test_width_out_is_width_in_unless_asked():
    assert Experts(2, 4, 5)(torch.randn(3, 4)).shape == (3, 4)
    assert Experts(2, 4, 5, 6)(torch.randn(3, 4)).shape == (3, 6)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 1, 3, 4), (0, 4), (2, 0, 4), (0, 3, 4)])
def test_keeps_leading_dimensions_empty_ones_included(shape):
    output = Experts(2, 4, 5, 6)(torch.randn(shape), torch.rand(*shape[:-1], 2))
    assert output.shape == (*shape[:-1], 6)


def test_takes_a_single_token_without_leading_dimensions():
    experts = Experts(2, 4, 5)
    x, weights = torch.randn(1, 4), torch.rand(1, 2)
    torch.testing.assert_close(experts(x[0], weights[0]), experts(x, weights)[0])
    torch.testing.assert_close(experts(x[0]), experts(x)[0])


def test_permuting_experts_with_their_weights_changes_nothing():
    experts = Experts(3, 4, 5, dtype=torch.float64)
    x, weights = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 3, dtype=torch.float64)
    expected, order = experts(x, weights), torch.tensor([2, 0, 1])
    for parameter in experts.parameters():
        parameter.data = parameter.data[order]
    torch.testing.assert_close(experts(x, weights[:, order]), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "bound"), [("w1", 0.5), ("b1", 0.5), ("w2", 0.2), ("b2", 0.2)])
def test_starts_as_linear_layers_start(name, bound):
    drawn = getattr(Experts(40, 4, 25, 8), name).detach()
    assert drawn.abs().max() <= bound
    assert stats.kstest(drawn.flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4


def test_reset_parameters_draws_again():
    experts = Experts(2, 4, 5)
    before = [parameter.detach().clone() for parameter in experts.parameters()]
    experts.reset_parameters()
    for old, new in zip(before, experts.parameters(), strict=True):
        assert not torch.equal(old, new)


@pytest.mark.parametrize("name", ["num_experts", "in_dim", "hidden_dim", "out_dim"])
def test_refuses_a_size_below_one(name):
    sizes = {"num_experts": 2, "in_dim": 3, "hidden_dim": 4, "out_dim": 5}
    with pytest.raises(ValueError, match=f"Experts expected {name} >= 1, got 0"):
        Experts(**sizes | {name: 0})


def test_refuses_an_unknown_activation():
    with pytest.raises(ValueError, match=r"Experts expected activation to be one of \('gelu', .*\), got 'tanh'"):
        Experts(2, 3, 4, activation="tanh")


def test_refuses_router_weights_of_other_tokens():
    with pytest.raises(ValueError, match=r"router_weights of shape \(2, 5, E=3\), got \(5, 2, 3\)"):
        Experts(3, 8, 16)(torch.randn(2, 5, 8), torch.rand(5, 2, 3))
