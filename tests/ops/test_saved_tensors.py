"""Every implementation unpacks each tensor that it saved once, and saves none twice."""

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from modx import Experts
from modx.ops import eager, expert_mixture

GROUPS = {"equal groups": (4, 4), "uneven groups": (5, 3), "an empty group": (8, 0)}
IMPLEMENTATIONS = ["reference", "composed", "batched", "chunked", "least memory", "triton", "triton, least memory"]
CUSTOM = IMPLEMENTATIONS[2:]  # with a backward pass of their own


@pytest.fixture
def mix(monkeypatch):
    """Run an implementation by the name of how it is reached."""

    def run(implementation: str, inputs: tuple, groups: tuple[int, ...]) -> Tensor:
        monkeypatch.setattr(eager, "FEW_ELEMENTS", 2**18 if implementation == "batched" else 0)
        if implementation == "composed":
            monkeypatch.setattr(eager, "why_unusual", lambda *tensors: "as inside a compiled graph")
        word = implementation.split(",")[0]
        private, shared = expert_mixture(
            *inputs,
            group_sizes=groups,
            num_private=2,
            num_shared=2,
            implementation=word if word in ("reference", "triton") else "eager",
            least_memory=implementation.endswith("least memory"),
        )
        return private.sin().sum() + shared.cos().sum()

    return run


def draw(groups: tuple[int, ...], *, weighted: bool = True) -> tuple[Tensor | None, ...]:
    num_experts = 2 * len(groups) + 2
    shapes = (sum(groups), 8), (sum(groups), 4), (num_experts, 16, 8), (num_experts, 16), (num_experts, 16, 6)
    x, weights, *bank = (torch.randn(shape, requires_grad=True) for shape in (*shapes, (num_experts, 6)))
    return x, weights if weighted else None, *bank


def gradients(total: Tensor, inputs: tuple[Tensor | None, ...]) -> list[Tensor]:
    return list(torch.autograd.grad(total, [part for part in inputs if part is not None]))


class Ledger(saved_tensors_hooks):
    """Count what is saved, and how often it is read."""

    def __init__(self) -> None:
        self.packed: list[Tensor] = []
        self.unpacked: Counter[int] = Counter()
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> int:
        self.packed.append(tensor)
        return len(self.packed) - 1

    def _unpack(self, number: int) -> Tensor:
        self.unpacked[number] += 1
        return self.packed[number]


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "unweighted"])
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_each_saved_tensor_is_unpacked_once(mix, implementation, groups, weighted):
    inputs = draw(groups, weighted=weighted)
    expected = gradients(mix(implementation, inputs, groups), inputs)
    with (ledger := Ledger()):
        found = gradients(mix(implementation, inputs, groups), inputs)
    assert ledger.packed
    assert ledger.unpacked == dict.fromkeys(range(len(ledger.packed)), 1)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "unweighted"])
@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("implementation", CUSTOM)
def test_no_memory_is_saved_twice(mix, implementation, groups, weighted):
    inputs = draw(groups, weighted=weighted)
    with (ledger := Ledger()):
        total = mix(implementation, inputs, groups)
    places = Counter(part.untyped_storage().data_ptr() for part in ledger.packed if part.numel())
    outside = 2  # the sine and the cosine save their inputs
    assert set(places.values()) == {1}
    assert len(places) > outside
    assert total.requires_grad


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_saving_on_the_cpu_changes_nothing(mix, implementation):
    inputs = draw(GROUPS["uneven groups"])
    expected = gradients(mix(implementation, inputs, GROUPS["uneven groups"]), inputs)
    with save_on_cpu():
        found = gradients(mix(implementation, inputs, GROUPS["uneven groups"]), inputs)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_activation_checkpointing_gives_the_same_gradients(mix, implementation, use_reentrant):
    groups = GROUPS["uneven groups"]
    inputs = draw(groups)
    expected = gradients(mix(implementation, inputs, groups), inputs)
    checkpoint(lambda *parts: mix(implementation, parts, groups), *inputs, use_reentrant=use_reentrant).backward()
    assert all(torch.equal(part.grad, want) for part, want in zip(inputs, expected, strict=True))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_bank_can_be_checkpointed(use_reentrant):
    bank, x, weights = Experts(2, 8, 16), torch.randn(5, 8, requires_grad=True), torch.rand(5, 2)
    bank(x, weights).sum().backward()
    expected, x.grad = x.grad, None
    checkpoint(bank, x, weights, use_reentrant=use_reentrant).sum().backward()
    assert torch.equal(x.grad, expected)
