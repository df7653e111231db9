"""The op gives eq. 4 and its gradients in every implementation, keeps groups apart, and says what does not fit."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracles
from modx.ops import expert_mixture

IMPLEMENTATIONS = ("reference", "eager", "auto")
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
every_activation = pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])


@dataclass(frozen=True)
class Case:
    group_sizes: tuple[int, ...]
    num_private: int
    num_shared: int
    in_dim: int = 3
    hidden_dim: int = 4
    out_dim: int = 3

    @property
    def num_experts(self) -> int:
        return len(self.group_sizes) * self.num_private + self.num_shared

    @property
    def counts(self) -> dict[str, object]:
        return {"group_sizes": self.group_sizes, "num_private": self.num_private, "num_shared": self.num_shared}


CASES = {
    "one token": Case((1,), 1, 3),
    "63 tokens, an empty group between": Case((20, 0, 43), 2, 1, in_dim=2, hidden_dim=3, out_dim=5),
    "97 tokens, seven experts": Case((40, 57), 2, 3, in_dim=5, hidden_dim=2, out_dim=2),
    "empty groups at both ends": Case((0, 4, 0), 1, 2),
    "no tokens": Case((0, 0), 1, 2),
    "no groups": Case((), 2, 3),
    "no private experts": Case((5, 4), 0, 3, out_dim=7),
    "no shared experts": Case((5, 4), 2, 0, in_dim=7),
    "widths of one": Case((2, 1), 1, 1, in_dim=1, hidden_dim=1, out_dim=1),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def make(
    case: Case, *, weighted: bool = True, seed: int = 0, dtype: torch.dtype = torch.float64
) -> list[Tensor | None]:
    """x, router_weights, w1, b1, w2, b2 of a case."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    tokens, experts = sum(case.group_sizes), case.num_experts
    return [
        draw(tokens, case.in_dim),
        draw(tokens, case.num_private + case.num_shared) if weighted else None,
        draw(experts, case.hidden_dim, case.in_dim),
        draw(experts, case.hidden_dim),
        draw(experts, case.hidden_dim, case.out_dim),
        draw(experts, case.out_dim),
    ]


def by_loops(case: Case, inputs: Sequence[Tensor | None], activation: str = "gelu") -> tuple[Tensor, Tensor]:
    x, weights, *banks = inputs
    networks = [tuple(bank[e].tolist() for bank in banks) for e in range(case.num_experts)]
    return oracles.expert_mixture(x, weights, networks, case.out_dim, activation=activation, **case.counts)


def requiring_grad(inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if part is None else part.detach().clone().requires_grad_() for part in inputs]


# what it computes


@every_implementation
@every_activation
@every_case
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "every weight 1"])
def test_sums_what_the_formula_says(case, activation, implementation, weighted):
    inputs = make(case, weighted=weighted)
    result = expert_mixture(*inputs, **case.counts, activation=activation, implementation=implementation)
    for got, expected in zip(result, by_loops(case, inputs, activation), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@every_implementation
@settings(max_examples=25, deadline=None)
@given(
    group_sizes=st.lists(st.integers(0, 4), max_size=4),
    counts=st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any),
    dims=st.tuples(*[st.integers(1, 4)] * 3),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sums_what_the_formula_says_at_any_shape(implementation, group_sizes, counts, dims, weighted, seed):
    case = Case(tuple(group_sizes), *counts, *dims)
    inputs = make(case, weighted=weighted, seed=seed)
    result = expert_mixture(*inputs, **case.counts, implementation=implementation)
    for got, expected in zip(result, by_loops(case, inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", ["reference", "eager"])
@pytest.mark.parametrize(
    ("name", "activation"),
    [
        *((name, "gelu") for name in CASES),
        *itertools.product(["63 tokens, an empty group between", "no shared experts"], ["gelu_tanh", "relu", "silu"]),
    ],
)
def test_gradients_are_those_of_what_it_computes(name, activation, implementation):
    case = CASES[name]
    x, weights, *banks = requiring_grad(make(case))

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return expert_mixture(*inputs, **case.counts, activation=activation, implementation=implementation)

    assert torch.autograd.gradcheck(run, (x, weights, *banks), fast_mode=len(x) > 20)


@pytest.mark.parametrize("implementation", ["reference", "eager"])
@pytest.mark.parametrize("name", ["63 tokens, an empty group between", "no private experts", "no tokens"])
def test_gradients_without_router_weights(name, implementation):
    case = CASES[name]
    x, _, *banks = requiring_grad(make(case))

    def run(x: Tensor, *banks: Tensor) -> tuple[Tensor, Tensor]:
        return expert_mixture(x, None, *banks, **case.counts, implementation=implementation)

    assert torch.autograd.gradcheck(run, (x, *banks), fast_mode=len(x) > 20)


@every_case
def test_implementations_agree_on_gradients_too(case):
    gradients = []
    for implementation in ("reference", "eager"):
        inputs = requiring_grad(make(case))
        private, shared = expert_mixture(*inputs, **case.counts, implementation=implementation)
        (private.sin().sum() + shared.cos().sum()).backward()
        gradients.append([part.grad for part in inputs])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@every_implementation
def test_auto_and_float32_stay_near_the_formula(implementation):
    case = CASES["97 tokens, seven experts"]
    result = expert_mixture(*make(case, dtype=torch.float32), **case.counts, implementation=implementation)
    for got, expected in zip(result, by_loops(case, make(case)), strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)


@every_implementation
def test_an_empty_sum_is_exactly_zeros(implementation):
    no_private, no_shared = CASES["no private experts"], CASES["no shared experts"]
    private, shared = expert_mixture(*make(no_private), **no_private.counts, implementation=implementation)
    assert private.shape == shared.shape == (9, 7)
    assert private.dtype == torch.float64
    assert not private.any()
    private, shared = expert_mixture(*make(no_shared), **no_shared.counts, implementation=implementation)
    assert private.shape == shared.shape == (9, 3)
    assert not shared.any()


@every_implementation
def test_inputs_need_not_be_contiguous(implementation):
    case = CASES["63 tokens, an empty group between"]
    inputs = make(case)
    strided = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in inputs]
    padded = [torch.nn.functional.pad(part, (0, 2), value=torch.nan)[..., :-2] for part in inputs]
    expected = expert_mixture(*inputs, **case.counts, implementation=implementation)
    for views in (strided, padded):
        assert not any(part.is_contiguous() for part in views)
        result = expert_mixture(*views, **case.counts, implementation=implementation)
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@every_implementation
def test_router_weights_may_be_expanded(implementation):
    case = CASES["97 tokens, seven experts"]
    x, _, *banks = make(case)
    row = torch.rand(5, dtype=torch.float64)
    expected = expert_mixture(x, row.repeat(97, 1), *banks, **case.counts, implementation=implementation)
    result = expert_mixture(x, row.expand(97, 5), *banks, **case.counts, implementation=implementation)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@every_implementation
def test_a_group_never_touches_the_private_experts_of_another(implementation):
    case = Case((3, 0, 4), 2, 1)
    x, weights, *banks = make(case)
    expected = expert_mixture(x, weights, *banks, **case.counts, implementation=implementation)
    for bank in banks:
        bank[2:6] = torch.nan  # the experts of the empty group and of the last
    private, shared = expert_mixture(x, weights, *banks, **case.counts, implementation=implementation)
    assert torch.equal(private[:3], expected[0][:3])
    assert torch.equal(shared, expected[1])
    assert private[3:].isnan().all()


@every_implementation
def test_experts_of_an_empty_group_get_a_gradient_of_zeros(implementation):
    case = Case((3, 0, 4), 1, 0)
    inputs = requiring_grad(make(case))
    private, _ = expert_mixture(*inputs, **case.counts, implementation=implementation)
    private.square().sum().backward()
    for bank in inputs[2:]:
        assert not bank.grad[1].any()
        assert bank.grad[0].any()
        assert bank.grad[2].any()


@every_implementation
def test_permuting_tokens_within_a_group_permutes_the_outputs(implementation):
    case = Case((5, 3), 1, 2)
    x, weights, *banks = make(case)
    order = torch.tensor([4, 2, 0, 1, 3, 7, 5, 6])
    expected = expert_mixture(x, weights, *banks, **case.counts, implementation=implementation)
    result = expert_mixture(x[order], weights[order], *banks, **case.counts, implementation=implementation)
    for got, want in zip(result, expected, strict=True):
        torch.testing.assert_close(got, want[order], rtol=1e-12, atol=1e-12)


@every_implementation
def test_permuting_groups_with_their_experts_permutes_the_outputs(implementation):
    case = Case((2, 3), 2, 1)
    x, weights, *banks = make(case)
    tokens, experts = torch.tensor([2, 3, 4, 0, 1]), torch.tensor([2, 3, 0, 1, 4])
    expected = expert_mixture(x, weights, *banks, **case.counts, implementation=implementation)
    result = expert_mixture(
        x[tokens],
        weights[tokens],
        *(bank[experts] for bank in banks),
        group_sizes=(3, 2),
        num_private=2,
        num_shared=1,
        implementation=implementation,
    )
    for got, want in zip(result, expected, strict=True):
        torch.testing.assert_close(got, want[tokens], rtol=1e-12, atol=1e-12)


# dtypes


@every_implementation
def test_bfloat16_stays_bfloat16_even_with_float32_router_weights(implementation):
    case = CASES["63 tokens, an empty group between"]
    x, weights, *banks = make(case, dtype=torch.bfloat16)
    for router_weights in (weights, weights.float()):
        result = expert_mixture(x, router_weights, *banks, **case.counts, implementation=implementation)
        expected = by_loops(case, [part.double() for part in (x, weights, *banks)])
        for got, want in zip(result, expected, strict=True):
            assert got.dtype == torch.bfloat16
            assert (got.double() - want).norm() < 0.02 * want.norm()


@every_implementation
def test_autocast_takes_tokens_and_weights_of_different_dtypes(implementation):
    case = CASES["97 tokens, seven experts"]
    x, weights, *banks = make(case, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        result = expert_mixture(x.bfloat16(), weights, *banks, **case.counts, implementation=implementation)
    for got, want in zip(result, by_loops(case, make(case)), strict=True):
        assert (got.double() - want).norm() < 0.02 * want.norm()


@every_implementation
def test_shapes_can_be_tried_on_the_meta_device(implementation):
    case = CASES["63 tokens, an empty group between"]
    inputs = [part.to("meta") for part in make(case)]
    private, shared = expert_mixture(*inputs, **case.counts, implementation=implementation)
    assert private.device.type == shared.device.type == "meta"
    assert private.shape == shared.shape == (63, 5)


# what it refuses

FITTING = Case((2, 3), 1, 2, in_dim=3, hidden_dim=4, out_dim=6)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("x", torch.zeros(1, 5, 3), "x of shape (T, D_in), got (1, 5, 3)"),
        ("x", torch.zeros(5, 7), "w1 of shape (E=4, H=4, D_in=7), got (4, 4, 3)"),
        ("x", torch.zeros(5, 3, dtype=torch.long), "x in a floating-point dtype, got torch.int64"),
        (
            "x",
            torch.zeros(5, 3, dtype=torch.float16),
            "x in torch.float32, the dtype of w1, got torch.float16; cast it",
        ),
        ("group_sizes", (2, 2), "sum(group_sizes) == 5, got 4"),
        ("group_sizes", (6, -1), "group_sizes[1] >= 0, got -1"),
        ("group_sizes", (), "sum(group_sizes) == 5, got 0"),
        ("group_sizes", (2, 2, 1), "w1 of shape (E=5, H, D_in=3), got (4, 4, 3)"),
        ("num_private", -1, "num_private >= 0, got -1"),
        ("num_shared", -1, "num_shared >= 0, got -1"),
        ("num_private", 2, "w1 of shape (E=6, H, D_in=3), got (4, 4, 3)"),
        ("num_shared", 0, "w1 of shape (E=2, H, D_in=3), got (4, 4, 3)"),
        ("router_weights", torch.zeros(5, 2), "router_weights of shape (T=5, K=3), got (5, 2)"),
        ("router_weights", torch.zeros(4, 3), "router_weights of shape (T=5, K=3), got (4, 3)"),
        (
            "router_weights",
            torch.ones(5, 3, dtype=torch.bool),
            "router_weights in a floating-point dtype, got torch.bool",
        ),
        ("w1", torch.zeros(4, 4), "w1 of shape (E=4, H, D_in=3), got (4, 4)"),
        ("w1", torch.zeros(3, 4, 3), "w1 of shape (E=4, H, D_in=3), got (3, 4, 3)"),
        (
            "w1",
            torch.zeros(4, 4, 3, dtype=torch.float64),
            "x in torch.float64, the dtype of w1, got torch.float32; cast it",
        ),
        ("b1", torch.zeros(4, 5), "b1 of shape (E=4, H=4), got (4, 5)"),
        ("b1", torch.zeros(4, 4, dtype=torch.float64), "b1 in torch.float32, the dtype of w1, got torch.float64"),
        ("w2", torch.zeros(4), "w2 of shape (E=4, H=4, D_out), got (4,)"),
        ("w2", torch.zeros(4, 5, 6), "w2 of shape (E=4, H=4, D_out), got (4, 5, 6)"),
        ("w2", torch.zeros(4, 4, 6, dtype=torch.int32), "w2 in a floating-point dtype, got torch.int32"),
        ("b2", torch.zeros(4, 3), "b2 of shape (E=4, D_out=6), got (4, 3)"),
        (
            "b2",
            torch.zeros(4, 6, dtype=torch.bfloat16),
            "b2 in torch.float32, the dtype of w1, got torch.bfloat16; cast it or use autocast",
        ),
        ("activation", "tanh", "activation to be one of ('gelu', 'gelu_tanh', 'relu', 'silu'), got 'tanh'"),
        ("implementation", "cuda", "implementation to be one of ('auto', 'reference', 'eager', 'triton'), got 'cuda'"),
    ],
)
def test_refuses_what_does_not_fit_and_says_why(argument, value, message):
    names = ("x", "router_weights", "w1", "b1", "w2", "b2")
    arguments = dict(zip(names, make(FITTING, dtype=torch.float32), strict=True)) | FITTING.counts
    expert_mixture(**arguments)
    with pytest.raises(ValueError, match="^expert_mixture expected .*" + re.escape(message)):
        expert_mixture(**arguments | {argument: value})


def test_refuses_a_mixture_of_no_experts():
    with pytest.raises(ValueError, match=r"num_private \+ num_shared >= 1, got 0"):
        expert_mixture(*make(FITTING), group_sizes=(2, 3), num_private=0, num_shared=0)


def test_says_where_the_kernels_cannot_run_and_what_to_use(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    message = "cannot run implementation='triton': the kernels need a GPU, and x is on cpu; use 'auto' or 'eager'"
    with pytest.raises(ValueError, match=message):
        expert_mixture(*make(FITTING), **FITTING.counts, implementation="triton")


@pytest.mark.parametrize("weights", [None, torch.full((6, 2), 0.5)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("num_private", "num_shared"), [(2, 0), (0, 2)])
def test_an_empty_sum_has_the_dtype_of_the_other_under_autocast(num_private, num_shared, weights):
    banks = torch.randn(2, 5, 4), torch.randn(2, 5), torch.randn(2, 5, 3), torch.randn(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        private, shared = expert_mixture(
            torch.randn(6, 4), weights, *banks, group_sizes=[6], num_private=num_private, num_shared=num_shared
        )
    assert private.dtype == shared.dtype
