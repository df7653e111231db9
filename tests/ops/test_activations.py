"""A new row of the table of activations is all that a new activation takes; who lacks a part of it says so."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from modx import Experts
from modx.ops import dispatch, eager, expert_mixture, explain
from modx.ops.activations import ACTIVATIONS, Activation
from modx.ops.dispatch import Arch

COUNTS = {"group_sizes": (3, 4), "num_private": 1, "num_shared": 2, "activation": "softplus"}


@pytest.fixture(autouse=True)
def softplus(monkeypatch):
    """A row with a function and nothing else."""
    monkeypatch.setitem(ACTIVATIONS, "softplus", Activation(F.softplus))


def make() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (7, 3), (4, 6, 5), (4, 6), (4, 6, 5), (4, 5)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def by_hand(x: Tensor, weights: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 4, token by token."""

    def run(token: int, expert: int, column: int) -> Tensor:
        return weights[token, column] * (F.softplus(x[token] @ w1[expert].T + b1[expert]) @ w2[expert] + b2[expert])

    private = [run(token, int(token >= 3), 0) for token in range(7)]
    shared = [run(token, 2, 1) + run(token, 3, 2) for token in range(7)]
    return torch.stack(private), torch.stack(shared)


@pytest.mark.parametrize("implementation", ["reference", "eager", "auto"])
@pytest.mark.parametrize("least_memory", [False, True], ids=["all kept", "least memory"])
@pytest.mark.parametrize("batched", [0, 2**18], ids=["one by one", "batched"])
def test_a_function_is_enough_for_reference_and_eager(monkeypatch, implementation, least_memory, batched):
    if implementation == "reference" and least_memory:
        pytest.skip("the reference keeps all that it computes")
    monkeypatch.setattr(eager, "FEW_ELEMENTS", batched)
    options = {"implementation": implementation, "least_memory": least_memory}
    inputs = make()
    got, want = expert_mixture(*inputs, **COUNTS, **options), by_hand(*inputs)
    torch.testing.assert_close(got, want)
    gradients = [
        torch.autograd.grad(private.sin().sum() + shared.cos().sum(), inputs) for private, shared in (got, want)
    ]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradgradcheck(
        lambda *inputs: expert_mixture(*inputs, **COUNTS, **options), inputs, fast_mode=True
    )


@pytest.mark.parametrize("name", [name for name, row in ACTIVATIONS.items() if row.derivative_])
def test_a_derivative_that_is_written_out_is_the_one_autograd_finds(name):
    function, derivative_, _ = ACTIVATIONS[name]
    z, grad = torch.randn(2, 50, dtype=torch.float64)
    expected = Activation(function).backward_(grad.clone(), z)
    torch.testing.assert_close(derivative_(grad.clone(), z), expected)


def test_the_kernels_refuse_it_by_name(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    inputs = [part.float() for part in make()]
    message = "cannot run implementation='triton': the kernels have no activation 'softplus'; use 'auto' or 'eager'"
    with pytest.raises(ValueError, match=message):
        expert_mixture(*inputs, **COUNTS, implementation="triton")


class OnAGpu(NamedTuple):
    """As much of a tensor as the choice looks at."""

    device: torch.device
    dtype: torch.dtype


def test_auto_runs_eager_on_a_gpu_and_says_why(monkeypatch):
    monkeypatch.setattr(dispatch, "find_arch", lambda device: Arch("sm_90", 132))
    _, weights, *banks = make()
    mixture = dispatch.Mixture(OnAGpu(torch.device("cuda"), torch.float16), weights, *banks, *COUNTS.values())
    assert dispatch.choose(mixture, torch.float16, "auto") == ("eager", "the kernels have no activation 'softplus'")
    mixture = mixture._replace(activation="silu")
    assert dispatch.choose(mixture, torch.float16, "auto").implementation == "triton"


def test_modules_and_explain_take_it():
    assert Experts(2, 5, 6, activation="softplus")(torch.randn(3, 5), torch.rand(3, 2)).shape == (3, 5)
    assert explain(*make(), **COUNTS).implementation == "eager"
