"""The kernels give eq. 4 and its gradients: on a GPU as they are, elsewhere in Triton's interpreter."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kernel_resources import KERNELS
from modx import HybridExpertDisentangler
from modx.ops import expert_mixture
from modx.ops.activations import ACTIVATIONS, Activation
from modx.ops.dispatch import Arch
from modx.ops.mixture import Mixture
from modx.ops.triton import fused, launch, schedule, splits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # the interpreter's numpy
NAMES = ("x", "router_weights", "w1", "b1", "w2", "b2")
IN_THE_KERNELS = [name for name, row in ACTIVATIONS.items() if row.kernel_word]


@dataclass(frozen=True)
class Case:
    group_sizes: tuple[int, ...] = (9, 0, 12)
    num_private: int = 1
    num_shared: int = 2
    in_dim: int = 16
    hidden_dim: int = 32
    out_dim: int = 16
    weighted: bool = True
    activation: str = "gelu"
    dtype: torch.dtype = torch.float32

    @property
    def arguments(self) -> dict[str, object]:
        return {
            "group_sizes": self.group_sizes,
            "num_private": self.num_private,
            "num_shared": self.num_shared,
            "activation": self.activation,
        }

    def draw(self, seed: int = 0) -> tuple[list[Tensor | None], list[Tensor]]:
        """Inputs and gradients of the outputs: of unit scale, so that an answer of zeros is wrong."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, fan_in: int = 1) -> Tensor:
            return (torch.randn(shape, generator=generator, dtype=torch.float64) / fan_in**0.5).to(DEVICE, self.dtype)

        tokens, experts = sum(self.group_sizes), len(self.group_sizes) * self.num_private + self.num_shared
        inputs = [
            normal(tokens, self.in_dim),
            normal(tokens, self.num_private + self.num_shared) if self.weighted else None,
            normal(experts, self.hidden_dim, self.in_dim, fan_in=self.in_dim),
            normal(experts, self.hidden_dim),
            normal(experts, self.hidden_dim, self.out_dim, fan_in=self.hidden_dim),
            normal(experts, self.out_dim),
        ]
        return inputs, [normal(tokens, self.out_dim) for _ in range(2)]


def run(
    case: Case,
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    implementation: str = "triton",
    least_memory: bool = False,
) -> dict[str, Tensor]:
    """Outputs and the gradients of every input, by name."""
    leaves = [None if part is None else part.detach().requires_grad_() for part in inputs]
    outputs = expert_mixture(*leaves, **case.arguments, implementation=implementation, least_memory=least_memory)
    present = {name: leaf for name, leaf in zip(NAMES, leaves, strict=True) if leaf is not None}
    found = torch.autograd.grad(outputs, list(present.values()), gradients, allow_unused=True, materialize_grads=True)
    return dict(zip(("private", "shared"), outputs, strict=True)) | dict(zip(present, found, strict=True))


def errors(case: Case, got: dict[str, Tensor], inputs: Sequence[Tensor | None], gradients: Sequence[Tensor]):
    """Relative Frobenius error of each tensor against the reference in float64."""
    exact = [None if part is None else part.double() for part in inputs]
    expected = run(case, exact, [part.double() for part in gradients], "reference")
    for name, want in expected.items():
        assert got[name].shape == want.shape
        if not want.any():
            assert not got[name].any(), name
        else:
            yield name, ((got[name].double() - want).norm() / want.norm()).item()


def check(case: Case, least_memory: bool = False) -> None:
    inputs, gradients = case.draw()
    got = run(case, inputs, gradients, least_memory=least_memory)
    assert all(part.dtype == case.dtype for part in got.values())
    if case.dtype == torch.float32 and DEVICE == "cpu":
        allowed = dict.fromkeys(got, 2e-6)
    else:
        allowed = {
            name: 1.5 * error for name, error in errors(case, run(case, inputs, gradients, "eager"), inputs, gradients)
        }
    for name, error in errors(case, got, inputs, gradients):
        assert error <= allowed[name], f"{name}: {error:.1e}, allowed {allowed[name]:.1e}"


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that a kernel was to fill starts as NaN, so that whatever it forgets shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def through_tf32():
    """As the fused kernels take float32 on a GPU; the interpreter computes it exactly."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def many_tokens(monkeypatch):
    """As if the chip had one processor: the largest tiles, no splits, the hidden layer stored for the weights."""
    monkeypatch.setattr(launch, "find_arch", lambda device: Arch("sm_90", 1))
    monkeypatch.setattr(fused, "FEW_TOKENS", 0)


# what they compute

CASES = {
    "one token": Case((1,)),
    "63 tokens of 97 features": Case((20, 0, 43), in_dim=97, hidden_dim=63, out_dim=33),
    "97 tokens, widths of one": Case((97,), in_dim=1, hidden_dim=1, out_dim=1),
    "empty groups at both ends": Case((0, 7, 0), 2, 1),
    "no tokens": Case((0, 0)),
    "no private experts": Case((5, 4), 0, 3),
    "no shared experts": Case((5, 4), 2, 0),
    "five experts a bank": Case((3, 2), 5, 5),
    "enough tokens to split the weights' sums": Case((100, 0, 257), 1, 1, 5, 6, 7),
    "wider than a fused tile, many tiles": Case((700, 0, 500), 1, 1, in_dim=260, hidden_dim=3, out_dim=5),
    "wider in than out": Case((10, 10), 1, 0, in_dim=64, out_dim=32, weighted=False),
    "more groups than a launch takes": Case((3,) * 11, in_dim=5, hidden_dim=7, out_dim=5),
    "wider than a fused tile": Case((20, 0, 13), in_dim=300, hidden_dim=65, out_dim=40),
    "wider than a fused tile, every weight 1": Case((20, 13), 1, 2, in_dim=20, out_dim=300, weighted=False),
    "wider, no private experts": Case((9,), 0, 2, in_dim=300),
    "wider, no shared experts": Case((9, 4), 2, 0, in_dim=300),
    "more experts than a fused tile takes": Case((4,), 0, 33, in_dim=5, hidden_dim=3, out_dim=4),
}
memory = pytest.mark.parametrize("least_memory", [False, True], ids=["", "least memory"])
# the fused kernels do the same for few tokens either way: see many_tokens
widths_and_memory = pytest.mark.parametrize(
    ("in_dim", "least_memory"), [(16, False), (300, False), (300, True)], ids=["fused", "wide", "wide, least memory"]
)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_the_reference(case):
    check(case)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("wider")])
def test_agrees_with_the_least_memory(name):
    check(CASES[name], least_memory=True)


@pytest.mark.parametrize("name", ["63 tokens of 97 features", "97 tokens, widths of one", "no private experts"])
@pytest.mark.usefixtures("many_tokens")
def test_agrees_on_large_tiles_with_the_hidden_layer_stored(name):
    check(CASES[name])


@pytest.mark.parametrize("name", ["63 tokens of 97 features", "wider than a fused tile"])
@memory
@pytest.mark.usefixtures("many_tokens")
def test_agrees_when_the_hidden_layer_is_cut_into_spans(monkeypatch, name, least_memory):
    monkeypatch.setattr(launch, "HIDDEN_BYTES", 20_000)
    case = CASES[name]
    spans = len(prepare(case).hidden_spans(2, least_memory))
    assert spans > 2
    check(case, least_memory)


def prepare(case: Case) -> launch.Launch:
    inputs, _ = case.draw()
    return launch.Launch.prepare(Mixture(*inputs, **case.arguments), case.dtype, False)


@pytest.mark.parametrize("activation", IN_THE_KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@widths_and_memory
def test_every_activation_in_both_precisions(activation, dtype, in_dim, least_memory):
    check(Case(in_dim=in_dim, activation=activation, dtype=dtype), least_memory)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_activations_hold_far_from_zero(activation, dtype):
    """The fit of the normal distribution turns around at 11: it must not be followed there."""
    case = Case((31,), 1, 0, in_dim=1, hidden_dim=1, out_dim=1, weighted=False, activation=activation, dtype=dtype)
    one = torch.ones(1, 1, 1, device=DEVICE, dtype=dtype)
    zero = torch.zeros(1, 1, device=DEVICE, dtype=dtype)
    x = torch.linspace(-60, 60, 31, device=DEVICE, dtype=dtype)[:, None]
    inputs, gradients = [x, None, one, zero, one, zero], [torch.ones_like(x), torch.zeros_like(x)]
    got = run(case, inputs, gradients)
    exact = [None if part is None else part.double() for part in inputs]
    want = run(case, exact, [part.double() for part in gradients], "reference")
    for name in ("private", "x"):
        torch.testing.assert_close(got[name].double(), want[name], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("activation", IN_THE_KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nothing_turns_nan_into_a_number(activation, dtype):
    case = Case((3,), 0, 1, activation=activation, dtype=dtype)
    (x, *rest), gradients = case.draw()
    x[1, 0] = torch.nan
    got = run(case, [x, *rest], gradients)
    assert got["shared"][1].isnan().all()
    exact = [part.double() for part in (x, *rest)]
    for name, want in run(case, exact, [part.double() for part in gradients], "reference").items():
        assert torch.equal(got[name].isnan(), want.isnan()), name


@pytest.mark.parametrize("backward", [False, True])
def test_a_word_that_the_kernels_lack_is_no_gelu(monkeypatch, backward):
    monkeypatch.setitem(ACTIVATIONS, "softplus", Activation(nn.functional.softplus, kernel_word="softplus"))
    case = Case((3,), activation="softplus" if not backward else "silu")
    inputs, _ = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]

    def mix() -> Tensor:
        return expert_mixture(*leaves, **case.arguments, implementation="triton")[0].sum()

    if not backward:
        with pytest.raises(Exception, match="the kernels have no such activation"):
            mix()
        return
    total = mix()
    monkeypatch.setitem(ACTIVATIONS, "silu", Activation(nn.functional.silu, kernel_word="softplus"))
    with pytest.raises(Exception, match="the kernels have no such activation"):
        total.backward()


@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
@pytest.mark.parametrize("out_dim", [16, 12])
def test_outputs_may_be_changed_in_place(in_dim, out_dim):
    inputs, _ = Case(in_dim=in_dim, out_dim=out_dim).draw()
    leaves = [part.detach().requires_grad_() for part in inputs]
    for output in expert_mixture(*leaves, **Case().arguments, implementation="triton"):
        output.add_(1)


def test_exact_float32_takes_the_vendors_products():
    torch.set_float32_matmul_precision("highest")
    check(Case())
    inputs, _ = Case().draw()
    mixture = Mixture(*inputs, **Case().arguments)
    kept, forgotten = (
        torch.ops.modx.expert_mixture(torch.float32, True, True, least, *mixture)[2] for least in (False, True)
    )
    assert kept.shape == (21, 3 * 32)  # the hidden layer
    assert not forgotten.numel()


def test_half_precision_gates_may_stay_float32():
    case = Case(dtype=torch.float16)
    (x, gates, *banks), gradients = case.draw()
    got = run(case, [x, gates.float(), *banks], gradients)
    assert got["router_weights"].dtype == torch.float32
    assert got["x"].dtype == got["private"].dtype == torch.float16
    for name, error in errors(case, got, [x, gates, *banks], gradients):
        assert error < 2e-3, name


# what they must not touch


def surrounded(tensor: Tensor) -> Tensor:
    """The same values as a slice of memory that is NaN before and behind."""
    rows = tensor.new_full((len(tensor) + 16, *tensor.shape[1:]), torch.nan)
    rows[8:-8] = tensor
    return rows[8:-8]


@pytest.mark.parametrize("name", ["63 tokens of 97 features", "wider than a fused tile", "one token"])
@pytest.mark.parametrize("tiles", ["", "many_tokens"])
def test_reads_nothing_beside_its_inputs(request, name, tiles):
    if tiles:
        request.getfixturevalue(tiles)
    case = CASES[name]
    inputs, gradients = case.draw()
    expected = run(case, inputs, gradients)
    got = run(case, [surrounded(part) for part in inputs], [surrounded(part) for part in gradients])
    for part, want in expected.items():
        assert torch.equal(got[part], want), part


@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
def test_a_group_never_touches_the_private_experts_of_another(in_dim):
    case = Case((3, 0, 4), 2, 1, in_dim=in_dim, hidden_dim=7)
    (x, gates, *banks), gradients = case.draw()
    expected = run(case, [x, gates, *banks], gradients)
    for bank in banks:
        bank[2:6] = torch.nan  # the experts of the empty group and of the last
    got = run(case, [x, gates, *banks], gradients)
    assert torch.equal(got["private"][:3], expected["private"][:3])
    assert torch.equal(got["shared"], expected["shared"])
    assert torch.equal(got["x"][:3], expected["x"][:3])
    assert got["private"][3:].isnan().all()


# gradients


@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
@pytest.mark.parametrize("tiles", ["", "many_tokens"])
def test_any_subset_of_gradients_is_the_same_as_in_the_full_set(request, in_dim, tiles):
    if tiles:
        request.getfixturevalue(tiles)
    case = Case(in_dim=in_dim)
    inputs, gradients = case.draw()
    everything = run(case, inputs, gradients)
    subsets = [*itertools.combinations(range(6), 1), (0, 1), (2, 4), (1, 3, 5)]
    for subset in subsets:
        leaves = [part.detach().requires_grad_(index in subset) for index, part in enumerate(inputs)]
        outputs = expert_mixture(*leaves, **case.arguments, implementation="triton")
        found = torch.autograd.grad(outputs, [leaves[index] for index in subset], gradients)
        for index, gradient in zip(subset, found, strict=True):
            torch.testing.assert_close(gradient, everything[NAMES[index]], rtol=1e-5, atol=1e-5)


def test_work_that_nobody_needs_is_not_done(monkeypatch):
    launched = count_launches(monkeypatch)
    case = Case()
    inputs, gradients = case.draw()
    for index, expected in enumerate([["backward"], ["backward"], ["weights"], ["weights"], ["weights"], []]):
        leaves = [part.detach().requires_grad_(index == place) for place, part in enumerate(inputs)]
        outputs = expert_mixture(*leaves, **case.arguments, implementation="triton")
        launched.clear()
        torch.autograd.grad(outputs, leaves[index], gradients)
        assert [name for name in launched if name != "sum_splits"] == expected


def test_one_output_alone_can_be_differentiated():
    case = Case()
    inputs, gradients = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]
    private, _ = expert_mixture(*leaves, **case.arguments, implementation="triton")
    got = torch.autograd.grad(private, leaves[0], gradients[0])[0]
    want = run(case, inputs, [gradients[0], torch.zeros_like(gradients[1])], "reference")["x"]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
def test_a_graph_that_is_kept_gives_the_same_bits_again(in_dim):
    case = Case(in_dim=in_dim)
    inputs, gradients = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]
    outputs = expert_mixture(*leaves, **case.arguments, implementation="triton")
    copies = [part.clone() for part in (*inputs, *gradients, *outputs)]
    first, second = (torch.autograd.grad(outputs, leaves, gradients, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    kept = (*inputs, *gradients, *outputs)
    assert all(torch.equal(one, two) for one, two in zip(kept, copies, strict=True)), "an input was overwritten"


def test_nothing_need_be_contiguous():
    case = Case(in_dim=12, hidden_dim=10, out_dim=14)
    inputs, gradients = case.draw()
    expected = run(case, inputs, gradients)

    def strided(part: Tensor) -> Tensor:
        return nn.functional.pad(part, (0, 2), value=torch.nan)[..., :-2]

    for views in ([strided(part) for part in gradients], [part.t().contiguous().t() for part in gradients]):
        got = run(case, [strided(part) for part in inputs], views)
        for name, want in expected.items():
            assert torch.equal(got[name], want), name
    expanded = [torch.ones((), device=DEVICE).expand_as(part) for part in gradients]
    whole = [torch.ones_like(part) for part in gradients]
    assert torch.equal(run(case, inputs, expanded)["w1"], run(case, inputs, whole)["w1"])


@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
def test_a_second_derivative_names_the_implementation_that_has_one(in_dim):
    case = Case(in_dim=in_dim)
    inputs, _ = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]
    outputs = expert_mixture(*leaves, **case.arguments, implementation="triton")
    first = torch.autograd.grad(outputs[0].square().sum(), leaves[0], create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="use implementation='eager'"):
        first.sum().backward()


def test_only_inputs_are_kept_for_the_backward_pass():
    def kept(case: Case, least_memory: bool = False, implementation: str = "triton") -> int:
        inputs, _ = case.draw()
        leaves = [part.detach().requires_grad_() for part in inputs]
        pointers = {leaf.data_ptr() for leaf in leaves}
        total = []

        def pack(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in pointers:
                total.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            expert_mixture(*leaves, **case.arguments, implementation=implementation, least_memory=least_memory)
        return sum(total)

    assert kept(Case()) == 0
    wide_case = Case(in_dim=300)
    hidden_layer = sum(wide_case.group_sizes) * 3 * 32 * 4
    assert kept(wide_case) == hidden_layer  # once, before its activation
    assert kept(wide_case, least_memory=True) == 0


# how they are launched


def count_launches(monkeypatch) -> list[str]:
    launched: list[str] = []

    class Counted:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            launched.append(self.kernel.__name__.removesuffix("_kernel"))
            return self.kernel[grid]

    for module, name in KERNELS:
        monkeypatch.setattr(module, name, Counted(getattr(module, name)))
    return launched


def test_the_papers_size_takes_one_launch_forward_and_four_backward_at_most(monkeypatch):
    """T = 768: 64 samples, three modalities of four tokens. Counted in the plan; nothing is computed at this size."""
    case = Case((256, 256, 256), 1, 3, in_dim=128, hidden_dim=256, out_dim=128, dtype=torch.float16)
    launched = count_launches(monkeypatch)
    for module, name in ((fused, "forward_kernel"), (fused, "backward_kernel"), (fused, "weights_kernel")):
        monkeypatch.setattr(getattr(module, name), "kernel", Silent(getattr(module, name).kernel))
    monkeypatch.setattr(splits.sum_splits_kernel, "kernel", Silent(splits.sum_splits_kernel.kernel))
    inputs, gradients = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]
    outputs = expert_mixture(*leaves, **case.arguments, implementation="triton")
    assert launched == ["forward"]
    launched.clear()
    torch.autograd.grad(outputs, leaves, gradients)
    assert launched[0] == "backward"
    assert len(launched) <= 4


class Silent:
    def __init__(self, kernel):
        self.__name__ = kernel.__name__

    def __getitem__(self, grid):
        return lambda *arguments, **keywords: None


def test_few_tokens_are_split_over_hidden_units_by_powers_of_two():
    instance = prepare(Case((21, 22, 21), 1, 3, 128, 256, 128, dtype=torch.float16))
    plan = schedule.schedule("forward", instance, instance.spans()[0])
    assert plan.splits == 4
    assert plan.banks == 2


def test_many_tokens_take_the_largest_tile_whole():
    instance = prepare(Case((6000, 6000, 6000), 1, 3, 16, 32, 16))
    plan = schedule.schedule("forward", instance, instance.spans()[0])
    assert (plan.splits, plan.banks) == (1, 1)
    assert plan.tile.block_t == 128


# in PyTorch's company


@widths_and_memory
def test_passes_pytorchs_own_check_of_operators(in_dim, least_memory):
    inputs, gradients = Case((3, 4), 1, 1, in_dim=in_dim).draw()  # little: the check runs the op a dozen times
    leaves = [part.detach().requires_grad_() for part in inputs]
    layout = ([3, 4], 1, 1, "gelu")
    options = (torch.float32, False, True, least_memory)
    torch.library.opcheck(torch.ops.modx.expert_mixture.default, (*options, *leaves, *layout))
    _, _, preact = torch.ops.modx.expert_mixture(*options, *inputs, *layout)
    backward = (torch.float32, False, least_memory, [True] * 6, *gradients, preact, *inputs, *layout)
    torch.library.opcheck(torch.ops.modx.expert_mixture_backward.default, backward)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
def test_compiles_once_for_every_count_of_tokens(backend, in_dim):
    torch._dynamo.reset()
    graphs = []

    def count(graph, example):
        graphs.append(graph)
        return torch._dynamo.lookup_backend(backend)(graph, example)

    case = Case(in_dim=in_dim)

    def mix(x: Tensor, gates: Tensor, *banks: Tensor) -> tuple[Tensor, Tensor]:
        half = x.shape[0] // 2
        return expert_mixture(
            x,
            gates,
            *banks,
            group_sizes=(half, x.shape[0] - half),
            num_private=1,
            num_shared=2,
            implementation="triton",
        )

    compiled = torch.compile(mix, fullgraph=True, dynamic=True, backend=count)
    for tokens in (6, 9, 14):
        inputs, gradients = replace(case, group_sizes=(tokens // 2, tokens - tokens // 2)).draw()
        leaves = [[part.detach().requires_grad_() for part in inputs] for _ in range(2)]
        results = []
        for function, own in zip((compiled, mix), leaves, strict=True):
            outputs = function(*own)
            results.append([*outputs, *torch.autograd.grad(outputs, own, gradients)])
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1


def module(implementation: str = "triton", **kwargs) -> HybridExpertDisentangler:
    return HybridExpertDisentangler(("text", "audio"), 16, 32, implementation=implementation, **kwargs).to(DEVICE)


def features(batch_size: int = 3) -> dict[str, Tensor]:
    return {name: torch.randn(batch_size, 4, 16, device=DEVICE) for name in ("text", "audio")}


def test_exports_with_a_dynamic_batch():
    batch = torch.export.Dim("batch", min=2, max=64)
    block = module()
    program = torch.export.export(
        block, (features(),), dynamic_shapes=({name: {0: batch} for name in ("text", "audio")},)
    )
    assert "modx.expert_mixture" in program.graph_module.code
    other = features(5)
    torch.testing.assert_close(program.module()(other).private, block(other).private, rtol=1e-5, atol=1e-5)


def test_autocast_computes_in_half_and_accumulates_gradients_of_float32_weights_in_float32():
    case = Case((40,), 0, 1, in_dim=16, hidden_dim=16, out_dim=16)
    inputs, gradients = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]
    with torch.autocast(DEVICE, torch.float16):
        outputs = expert_mixture(*leaves, **case.arguments, implementation="triton")
        # the backward pass belongs outside of autocast, but must not suffer inside
        found = torch.autograd.grad(outputs, leaves, [part.half() for part in gradients])
    assert all(gradient.dtype == torch.float32 for gradient in found)
    assert not torch.equal(found[2], found[2].half().float()), "the gradient of w1 was rounded to half precision"
    exact = run(case, [part.double() for part in inputs], [part.double() for part in gradients], "reference")
    for name, gradient in zip(NAMES, found, strict=True):
        assert (gradient.double() - exact[name]).norm() <= 2e-3 * exact[name].norm(), name


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("in_dim", [16, 300], ids=["fused", "wide"])
def test_activation_checkpointing_gives_the_same_gradients(in_dim, use_reentrant):
    case = Case(in_dim=in_dim)
    inputs, gradients = case.draw()
    leaves = [part.detach().requires_grad_() for part in inputs]

    def mix(*parts: Tensor) -> tuple[Tensor, Tensor]:
        return expert_mixture(*parts, **case.arguments, implementation="triton")

    torch.autograd.backward(checkpoint(mix, *leaves, use_reentrant=use_reentrant), gradients)
    expected = run(case, inputs, gradients)
    for name, leaf in zip(NAMES, leaves, strict=True):
        assert torch.equal(leaf.grad, expected[name]), name


def test_ddp_gives_every_parameter_its_gradient(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        torch.manual_seed(1)
        block, batch = module(), features()
        wrapped = nn.parallel.DistributedDataParallel(block)
        views = wrapped(batch)
        sum(part.square().sum() for view in (views.private, views.shared) for part in view.values()).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in block.parameters())
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU the kernels take bfloat16")
def test_refuses_bfloat16_in_the_interpreter_which_computes_it_wrongly():
    inputs, _ = Case(dtype=torch.bfloat16).draw()
    with pytest.raises(ValueError, match="cannot run implementation='triton': Triton's interpreter computes bfloat16"):
        expert_mixture(*inputs, **Case().arguments, implementation="triton")


def test_refuses_float64():
    inputs, _ = Case(dtype=torch.float64).draw()
    with pytest.raises(ValueError, match="take float16, bfloat16 and float32, not float64; use 'auto' or 'eager'"):
        expert_mixture(*inputs, **Case().arguments, implementation="triton")
