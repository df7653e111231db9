"""Batched, one by one or by chunks, the mixture with a backward pass of its own is the reference's, gradients too."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from modx import Experts
from modx.ops import chunked, eager, expert_mixture
from modx.ops.activations import ACTIVATIONS

# equal groups run side by side, uneven ones in turn, an empty one gives its experts zeros
LAYOUTS = {
    "equal groups": ((6, 6, 6), 2, 3),
    "uneven groups": ((7, 0, 12), 2, 3),
    "no private experts": ((5, 5), 0, 2),
    "no shared experts": ((5, 5), 2, 0),
    "no groups": ((), 1, 2),
    "no tokens": ((0, 0), 1, 2),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
memory = pytest.mark.parametrize("least_memory", [False, True], ids=["all kept", "least memory"])


@pytest.fixture(autouse=True)
def _many_chunks(monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 10)  # two tokens of the four hidden units below


def make(layout, *, dtype=torch.float64, dim=3, hidden_dim=4, out_dim=5) -> tuple[list[Tensor], dict]:
    (sizes, private, shared), generator = layout, torch.Generator().manual_seed(0)
    tokens, experts = sum(sizes), len(sizes) * private + shared
    shapes = [
        (tokens, dim),
        (tokens, private + shared),
        (experts, hidden_dim, dim),
        (experts, hidden_dim),
        (experts, hidden_dim, out_dim),
        (experts, out_dim),
    ]
    inputs = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    return inputs, {"group_sizes": sizes, "num_private": private, "num_shared": shared}


def gradients(inputs, counts, wanted=slice(None), **options) -> tuple[Tensor, ...]:
    private, shared = expert_mixture(*inputs, **counts, **options)
    leaves = [part for part in inputs if part is not None and part.requires_grad][wanted]
    return torch.autograd.grad(private.sin().sum() + shared.cos().sum(), leaves)


@memory
@every_layout
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batched", [0, 2**18], ids=["one by one", "batched"])
@pytest.mark.parametrize("weighted", [True, False])
def test_gives_the_outputs_and_gradients_of_the_reference(
    monkeypatch, layout, activation, least_memory, batched, weighted
):
    monkeypatch.setattr(eager, "FEW_ELEMENTS", batched)
    inputs, counts = make(layout)
    if not weighted:
        inputs[1] = None
    options = {"activation": activation}
    ours = {"implementation": "eager", "least_memory": least_memory, **options}
    expected = expert_mixture(*inputs, **counts, **options, implementation="reference")
    torch.testing.assert_close(expert_mixture(*inputs, **counts, **ours), expected, rtol=1e-12, atol=1e-12)
    expected = gradients(inputs, counts, **options, implementation="reference")
    torch.testing.assert_close(gradients(inputs, counts, **ours), expected, rtol=1e-11, atol=1e-11)


@memory
@pytest.mark.parametrize("layout", ["equal groups", "uneven groups"])
def test_gradients_of_gradients(least_memory, layout):
    inputs, counts = make(LAYOUTS[layout])

    def run(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return expert_mixture(*inputs, **counts, least_memory=least_memory)

    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@memory
@pytest.mark.parametrize("needed", range(6))
@pytest.mark.parametrize("others", [True, False], ids=["alone", "all others"])
def test_any_inputs_may_do_without_gradients(least_memory, needed, others):
    inputs, counts = make(LAYOUTS["uneven groups"])
    for index, part in enumerate(inputs):
        part.requires_grad_((index == needed) == others)
    expected = gradients(inputs, counts, implementation="reference")
    got = gradients(inputs, counts, least_memory=least_memory)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@memory
def test_backward_twice_gives_the_same_and_leaves_incoming_gradients_alone(least_memory):
    inputs, counts = make(LAYOUTS["equal groups"])
    outputs = expert_mixture(*inputs, **counts, least_memory=least_memory)
    incoming = [torch.randn(5, 18, dtype=torch.float64).t() for _ in outputs]
    copies = [part.clone() for part in incoming]
    first = torch.autograd.grad(outputs, inputs, incoming, retain_graph=True)
    second = torch.autograd.grad(outputs, inputs, incoming)
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, incoming, copies))
    reference = expert_mixture(*inputs, **counts, implementation="reference")
    torch.testing.assert_close(first, torch.autograd.grad(reference, inputs, copies), rtol=1e-11, atol=1e-11)


@memory
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_router_weights_of_another(least_memory, dtype):
    inputs, counts = make(LAYOUTS["uneven groups"], dtype=dtype)
    inputs[1] = inputs[1].detach().float().requires_grad_()
    doubles = [part.detach().double().requires_grad_() for part in inputs]
    expected = gradients(doubles, counts, implementation="reference")
    for part, got, want in zip(inputs, gradients(inputs, counts, least_memory=least_memory), expected, strict=True):
        assert got.dtype == part.dtype
        assert (got.double() - want).norm() < 0.05 * want.norm()


def test_autocast_reaches_the_gradients():
    inputs, counts = make(LAYOUTS["equal groups"], dtype=torch.float32)
    expected = gradients(inputs, counts, implementation="reference")
    for least_memory in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            got = gradients(inputs, counts, least_memory=least_memory)
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.dtype == torch.float32
            assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_least_memory_keeps_the_inputs_alone():
    inputs, counts = make(LAYOUTS["uneven groups"])
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: kept.append(part) or part, lambda part: part):
        expert_mixture(*inputs, **counts, least_memory=True)
    assert {part.data_ptr() for part in kept} == {part.data_ptr() for part in inputs}


def test_least_memory_never_holds_the_whole_hidden_layer():
    inputs, counts = make(((40,), 1, 1), hidden_dim=64)

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                self.numel = max(self.numel, result.numel())
            return result

    with Largest() as largest:
        outputs = expert_mixture(*inputs, **counts, least_memory=True)
        torch.autograd.grad(outputs, inputs, [torch.ones_like(part) for part in outputs])
    assert largest.numel == 2 * 64 * 5  # w2 and its gradient; the hidden layer of one expert is 40 * 64


@pytest.mark.parametrize("batched", [0, 2**18], ids=["one by one", "batched"])
def test_each_expert_keeps_two_hidden_layers_and_an_output(monkeypatch, batched):
    """Router weights scale the outputs, so that no third, scaled hidden layer is kept."""
    monkeypatch.setattr(eager, "FEW_ELEMENTS", batched)
    inputs, counts = make(LAYOUTS["equal groups"])
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: kept.append(part) or part, lambda part: part):
        expert_mixture(*inputs, **counts)
    tokens, experts_per_token, hidden_dim, out_dim = 18, 5, 4, 5
    added = sum(part.numel() for part in kept) - sum(part.numel() for part in inputs)
    assert added == tokens * experts_per_token * (2 * hidden_dim + out_dim)


@memory
def test_nothing_is_kept_when_nothing_needs_a_gradient(least_memory):
    inputs, counts = make(LAYOUTS["uneven groups"])

    def refuse(part: Tensor) -> Tensor:
        raise AssertionError("kept a tensor")

    with torch.autograd.graph.saved_tensors_hooks(refuse, refuse):
        expert_mixture(*(part.detach() for part in inputs), **counts, least_memory=least_memory)


@pytest.mark.parametrize("batched", [0, 2**18], ids=["one by one", "batched"])
@pytest.mark.parametrize("layout", ["equal groups", "uneven groups", "no private experts"])
def test_outputs_may_be_changed_in_place(monkeypatch, batched, layout):
    monkeypatch.setattr(eager, "FEW_ELEMENTS", batched)
    inputs, counts = make(LAYOUTS[layout])
    for output in expert_mixture(*inputs, **counts):
        output.add_(1)


@pytest.mark.parametrize("batched", [0, 2**18], ids=["one by one", "batched"])
def test_inference_keeps_no_hidden_layer(monkeypatch, batched):
    monkeypatch.setattr(eager, "FEW_ELEMENTS", batched)
    inputs, counts = make(LAYOUTS["equal groups"])
    kept: list[object] = []
    monkeypatch.setattr(
        torch.autograd.function.FunctionCtx, "save_for_backward", lambda ctx, *parts: kept.append(parts)
    )
    with torch.no_grad():
        expert_mixture(*inputs, **counts)
    assert all(len(parts) == len(inputs) for parts in kept)


def test_chunks_of_half_precision_are_summed_in_float32():
    inputs, counts = make(((4000,), 0, 1), dtype=torch.bfloat16, dim=8)
    exact = gradients([part.detach().double().requires_grad_() for part in inputs], counts, implementation="reference")
    plain, chunks = (gradients(inputs, counts, least_memory=least) for least in (False, True))
    for index in (2, 3, 4, 5):
        error, limit = ((got[index].double() - exact[index]).norm() for got in (chunks, plain))
        assert error <= 2 * limit


def test_float64_stays_under_autocast():
    inputs, counts = make(LAYOUTS["equal groups"])
    with torch.autocast("cpu", torch.bfloat16):
        assert expert_mixture(*inputs, **counts, least_memory=True)[0].dtype == torch.float64


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("batched", [0, 2**18], ids=["one by one", "batched"])
def test_activation_checkpointing_gives_the_same_gradients(monkeypatch, batched, use_reentrant):
    """A recomputed graph hands out each of its tensors once."""
    monkeypatch.setattr(eager, "FEW_ELEMENTS", batched)
    experts = Experts(2, 8, 16)
    x, weights = torch.randn(5, 8, requires_grad=True), torch.rand(5, 2, requires_grad=True)
    leaves, grad = [x, weights, *experts.parameters()], torch.randn(5, 8)
    experts(x, weights).backward(grad)
    expected = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    checkpoint(experts, x, weights, use_reentrant=use_reentrant).backward(grad)
    assert all(torch.equal(leaf.grad, want) for leaf, want in zip(leaves, expected, strict=True))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_so_does_checkpointing_what_keeps_the_least(use_reentrant):
    inputs, counts = make(LAYOUTS["uneven groups"])

    def total(*inputs: Tensor) -> Tensor:
        private, shared = expert_mixture(*inputs, **counts, least_memory=True)
        return private.sin().sum() + shared.cos().sum()

    expected = gradients(inputs, counts, least_memory=True)
    checkpoint(total, *inputs, use_reentrant=use_reentrant).backward()
    assert all(torch.equal(part.grad, want) for part, want in zip(inputs, expected, strict=True))


@memory
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch.func.jvp itself calls it
def test_transforms_differentiate_every_step(least_memory):
    inputs, counts = make(LAYOUTS["equal groups"])
    x, *rest = (part.detach() for part in inputs)

    def total(x: Tensor, **options: object) -> Tensor:
        private, shared = expert_mixture(x, *rest, **counts, **options)
        return private.sin().sum() + shared.cos().sum()

    expected = torch.func.grad(lambda x: total(x, implementation="reference"))(x)
    torch.testing.assert_close(torch.func.grad(lambda x: total(x, least_memory=least_memory))(x), expected)
    _, tangent = torch.func.jvp(lambda x: total(x, least_memory=least_memory), (x,), (x,))
    torch.testing.assert_close(tangent, (expected * x).sum())


def test_the_reference_cannot_forget():
    inputs, counts = make(LAYOUTS["equal groups"])
    with pytest.raises(ValueError, match=r"'reference', which saves all it computes, got True; use .*'eager'"):
        expert_mixture(*inputs, **counts, implementation="reference", least_memory=True)
