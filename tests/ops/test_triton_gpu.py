"""The Triton kernels on a GPU: as near to float64 as eager, the same every time, inside their buffers, and at home
in PyTorch's compilers, graphs, autocast and checkpoints. No hypothesis here: the GPU machine may be bare."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

from modx.ops import expert_mixture

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
NAMES = ("private", "shared", "dx", "drouter_weights", "dw1", "db1", "dw2", "db2")
HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    group_sizes: tuple[int, ...]
    dim: int
    num_private: int = 1
    num_shared: int = 3
    hidden_dim: int | None = None
    out_dim: int | None = None
    gated: bool = True
    activation: str = "gelu"

    @property
    def options(self) -> dict[str, Any]:
        return {
            "group_sizes": self.group_sizes,
            "num_private": self.num_private,
            "num_shared": self.num_shared,
            "activation": self.activation,
        }


def split(tokens: int) -> tuple[int, ...]:
    """Three groups of different sizes; the second is empty if there are few tokens."""
    first = (tokens + 1) // 2
    second = (tokens - first) // 3
    return first, second, tokens - first - second


BASE = Case(split(768), 128)
SIZES = [
    *[Case(split(tokens), dim) for dim in (63, 97, 128, 256, 512) for tokens in (1, 97, 768, 8192)],
    Case((0, 97, 0), 128),
    Case((97, 0, 0, 31), 63),
]
VARIANTS = [
    *[replace(BASE, activation=name) for name in ("gelu_tanh", "relu", "silu")],
    *[Case(split(97), dim, gated=False) for dim in (63, 128, 512)],
    *[Case(split(97), 128, *counts) for counts in ((1, 1), (2, 6), (4, 12), (0, 3), (2, 0))],
    Case(split(768), 256, out_dim=128, num_shared=0, gated=False),  # a reconstructor's shape
    Case(split(97), 97, out_dim=63, hidden_dim=101),
    Case(split(97), 128, hidden_dim=16),
    Case((3, 0, 17, 5, 0, 40, 1, 64, 2, 33, 8), 64),  # more groups than modalities have
]
plainly_or_with_least_memory = pytest.mark.parametrize("least_memory", [False, True], ids=["", "least memory"])


def make(case: Case, dtype: torch.dtype, seed: int = 0) -> list[Tensor | None]:
    """x, router_weights, w1, b1, w2, b2 of unit scale, and the outputs' gradients."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    tokens, dim = sum(case.group_sizes), case.dim
    hidden, out = case.hidden_dim or 2 * dim, case.out_dim or dim
    experts = len(case.group_sizes) * case.num_private + case.num_shared

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=generator, device=DEVICE)).to(dtype)

    return [
        draw(tokens, dim),
        draw(tokens, case.num_private + case.num_shared) if case.gated else None,
        draw(experts, hidden, dim, scale=dim**-0.5),
        draw(experts, hidden),
        draw(experts, hidden, out, scale=hidden**-0.5),
        draw(experts, out),
        draw(tokens, out),
        draw(tokens, out),
    ]


def run(case: Case, inputs: Sequence[Tensor | None], **options: Any) -> dict[str, Tensor]:
    """Outputs and gradients by name."""
    leaves = [None if part is None else part.detach().requires_grad_() for part in inputs[:6]]
    outputs = expert_mixture(*leaves, **case.options, **options)
    return named(outputs, leaves, gradients_of(outputs, leaves, inputs[6:]))


def gradients_of(
    outputs: Sequence[Tensor], leaves: Sequence[Tensor | None], incoming: Sequence[Tensor]
) -> list[Tensor]:
    wanted = [leaf for leaf in leaves if leaf is not None]
    pairs = [pair for pair in zip(outputs, incoming, strict=True) if pair[0].requires_grad]  # not an empty sum's zeros
    return list(torch.autograd.grad([out for out, _ in pairs], wanted, [part for _, part in pairs]))


def named(outputs: Sequence[Tensor], leaves: Sequence[Tensor | None], gradients: Sequence[Tensor]) -> dict[str, Tensor]:
    kept = [name for name, leaf in zip(NAMES[2:], leaves, strict=True) if leaf is not None]
    return dict(zip([*NAMES[:2], *kept], [*outputs, *gradients], strict=True))


def in_float64(inputs: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if part is None else part.double() for part in inputs]


def error(got: Tensor, expected: Tensor) -> float:
    """Relative Frobenius error; where zeros are expected, the norm itself."""
    norm = expected.norm().item()
    return ((got.double() - expected).norm() / (norm or 1.0)).item()


def assert_as_good_as(ours: dict[str, Tensor], eager: dict[str, Tensor], exact: dict[str, Tensor], dtype: torch.dtype):
    """At most 1.5 times eager's error; of a handful of numbers the error is luck, up to one rounding."""
    assert ours.keys() == eager.keys() == exact.keys()
    for name, expected in exact.items():
        assert ours[name].isfinite().all(), f"{name} is not finite"
        limit = 1.5 * error(eager[name], expected)
        if expected.numel() < 1000:
            limit = max(limit, torch.finfo(dtype).eps / 2)
        assert error(ours[name], expected) <= limit, f"{name}: {error(ours[name], expected):.2e} > {limit:.2e}"


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]):
    for name, want in expected.items():
        assert torch.equal(got[name], want), f"{name} differs by {error(got[name], want.double()):.2e}"


def check(case: Case, dtype: torch.dtype, **options: Any):
    inputs = make(case, dtype)
    exact = run(case, in_float64(inputs), implementation="reference")
    eager = run(case, inputs, implementation="eager")
    assert_as_good_as(run(case, inputs, implementation="triton", **options), eager, exact, dtype)


# what it computes


@plainly_or_with_least_memory
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_is_as_near_to_float64_as_eager_at_every_size(case, dtype, least_memory):
    check(case, dtype, least_memory=least_memory)


@plainly_or_with_least_memory
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_is_as_near_to_float64_as_eager_in_every_variant(case, dtype, least_memory):
    check(case, dtype, least_memory=least_memory)


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("dim", [63, 128, 512])
def test_float32_follows_the_precision_asked_for(dim, precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        check(Case(split(768), dim), torch.float32)
    finally:
        torch.set_float32_matmul_precision(before)


def test_indexes_beyond_two_to_the_thirty_one():
    tokens, dim = 2**25 + 97, 64
    if torch.cuda.mem_get_info()[0] < 56 * 2**30:
        pytest.skip("needs 56 GiB of free memory")
    case = Case((tokens // 2, tokens - tokens // 2), dim, 1, 1, hidden_dim=16, gated=False)
    assert tokens * dim > 2**31
    small = make(replace(case, group_sizes=(1, 1)), torch.bfloat16)
    banks = [bank.requires_grad_() for bank in small[2:6]]
    x = torch.randn(tokens, dim, device=DEVICE, dtype=torch.bfloat16).requires_grad_()
    outputs = expert_mixture(x, None, *banks, **case.options, implementation="triton")
    incoming = torch.randn_like(x)
    gradients = torch.autograd.grad(outputs, (x, *banks), (incoming, incoming))
    assert all(part.isfinite().all() for part in gradients[1:])
    last = replace(case, group_sizes=(0, 1024))
    part = [x.detach()[-1024:], None, *small[2:6], *[incoming[-1024:]] * 2]
    exact = run(last, in_float64(part), implementation="reference")
    eager = run(last, part, implementation="eager")
    names = ("private", "shared", "dx")
    ours = dict(zip(names, [row[-1024:] for row in (*outputs, gradients[0])], strict=True))
    chosen = [{name: results[name] for name in names} for results in (eager, exact)]
    assert_as_good_as(ours, *chosen, torch.bfloat16)


# the same every time, and nothing that was never written


@plainly_or_with_least_memory
def test_twenty_runs_are_bitwise_equal_while_other_streams_work(least_memory):
    case = Case(split(8192), 128)
    inputs = make(case, torch.bfloat16)
    options = {"implementation": "triton", "least_memory": least_memory}
    expected = run(case, inputs, **options)
    side, noise = torch.cuda.Stream(), torch.randn(2048, 2048, device=DEVICE)
    for index in range(20):
        with torch.cuda.stream(side):
            for _ in range(index % 4):
                noise = (noise @ noise).clamp(-1, 1)
        assert_equal(run(case, inputs, **options), expected)


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that was never written is NaN: deterministic mode fills what torch.empty gives."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(8, device=DEVICE).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore")  # deterministic mode warns of other operations
@plainly_or_with_least_memory
@pytest.mark.parametrize(
    "case", [*VARIANTS, Case(split(97), 97), Case((0, 97, 0), 512), Case(split(8192), 256)], ids=str
)
def test_reads_nothing_that_was_never_written(case, least_memory):
    inputs = make(case, torch.bfloat16)
    options = {"implementation": "triton", "least_memory": least_memory}
    expected = run(case, inputs, **options)
    with poisoned():
        got = run(case, inputs, **options)
    assert_equal(got, expected)


@pytest.mark.parametrize("guard", [128, 129], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("dim", [63, 128, 256, 512])
def test_touches_nothing_around_its_inputs(dim, guard):
    case = Case((41, 0, 56), dim)
    inputs = make(case, torch.bfloat16)
    buffers, views = [], []
    for part in inputs:
        buffer = torch.full((part.numel() + 2 * guard,), torch.nan, device=DEVICE, dtype=part.dtype)
        views.append(buffer[guard:-guard].view(part.shape).copy_(part))
        buffers.append(buffer)
    before = [buffer.view(torch.int16).clone() for buffer in buffers]
    got = run(case, views, implementation="triton")
    assert_as_good_as(
        got,
        run(case, inputs, implementation="eager"),
        run(case, in_float64(inputs), implementation="reference"),
        torch.bfloat16,
    )
    for buffer, bits in zip(buffers, before, strict=True):
        assert torch.equal(buffer.view(torch.int16), bits)


@plainly_or_with_least_memory
def test_a_second_backward_gives_the_same(least_memory):
    inputs = make(BASE, torch.bfloat16)
    leaves = [part.detach().requires_grad_() for part in inputs[:6]]
    outputs = expert_mixture(*leaves, **BASE.options, implementation="triton", least_memory=least_memory)
    first = torch.autograd.grad(outputs, leaves, inputs[6:], retain_graph=True)
    for got, expected in zip(torch.autograd.grad(outputs, leaves, inputs[6:]), first, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    "lay_out",
    [
        lambda part: part.T.contiguous().T,
        lambda part: torch.nn.functional.pad(part, (0, 3), value=torch.nan)[:, :-3],
        lambda part: part[:1].expand_as(part),
        lambda part: part.new_ones(()).expand_as(part),
    ],
    ids=["transposed", "padded", "rows of one", "a sum's"],
)
def test_incoming_gradients_may_lie_in_any_way(lay_out):
    inputs = make(BASE, torch.bfloat16)
    laid = [lay_out(part) for part in inputs[6:]]
    assert not any(part.is_contiguous() for part in laid)
    expected = run(BASE, [*inputs[:6], *(part.contiguous() for part in laid)], implementation="triton")
    assert_equal(run(BASE, [*inputs[:6], *laid], implementation="triton"), expected)


# the rest of PyTorch


def halves(x: Tensor, router_weights: Tensor, *banks: Tensor) -> tuple[Tensor, Tensor]:
    """The op on two groups whose sizes follow from the number of tokens."""
    sizes = (x.shape[0] // 2, x.shape[0] - x.shape[0] // 2)
    return expert_mixture(
        x, router_weights, *banks, group_sizes=sizes, num_private=1, num_shared=3, implementation="triton"
    )


@pytest.mark.filterwarnings("ignore")  # inductor's own
def test_compiles_once_for_any_number_of_tokens():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(halves, fullgraph=True, backend=counter)
    for tokens in (768, 97, 1000):
        case = Case((tokens // 2, tokens - tokens // 2), 128)
        inputs = make(case, torch.bfloat16, seed=tokens)
        leaves = [part.detach().requires_grad_() for part in inputs[:6]]
        for part in leaves[:2]:
            torch._dynamo.mark_dynamic(part, 0)
        outputs = compiled(*leaves)
        got = named(outputs, leaves, gradients_of(outputs, leaves, inputs[6:]))
        exact = run(case, in_float64(inputs), implementation="reference")
        assert_as_good_as(got, run(case, inputs, implementation="eager"), exact, torch.bfloat16)
    assert counter.frame_count == 1


@plainly_or_with_least_memory
@pytest.mark.parametrize("case", [BASE, Case(split(8192), 512)], ids=str)
def test_a_captured_graph_replays_on_new_inputs(case, least_memory):
    inputs = make(case, torch.bfloat16)
    options = {"implementation": "triton", "least_memory": least_memory}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run(case, inputs, **options)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = run(case, inputs, **options)
    for seed in (1, 2):
        others = make(case, torch.bfloat16, seed)
        for static, other in zip(inputs, others, strict=True):
            static.copy_(other)
        graph.replay()
        assert_equal(replayed, run(case, others, **options))


def test_autocast_gives_float32_parameters_float32_gradients():
    inputs = make(BASE, torch.float32)
    exact = run(BASE, in_float64(inputs), implementation="reference")

    def cast(implementation: str) -> dict[str, Tensor]:
        leaves = [part.detach().requires_grad_() for part in inputs[:6]]
        with torch.autocast(DEVICE, torch.bfloat16):
            outputs = expert_mixture(*leaves, **BASE.options, implementation=implementation)
        assert {part.dtype for part in outputs} == {torch.bfloat16}
        incoming = [part.bfloat16() for part in inputs[6:]]
        return named(outputs, leaves, gradients_of(outputs, leaves, incoming))

    ours = cast("triton")
    assert {ours[name].dtype for name in NAMES[2:]} == {torch.float32}
    assert_as_good_as(ours, cast("eager"), exact, torch.bfloat16)


@plainly_or_with_least_memory
def test_activation_checkpointing_changes_nothing(least_memory):
    inputs = make(BASE, torch.bfloat16)
    options = {"implementation": "triton", "least_memory": least_memory}

    def op(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        return expert_mixture(*leaves, **BASE.options, **options)

    leaves = [part.detach().requires_grad_() for part in inputs[:6]]
    outputs = checkpoint(op, *leaves, use_reentrant=False)
    got = named(outputs, leaves, gradients_of(outputs, leaves, inputs[6:]))
    assert_equal(got, run(BASE, inputs, **options))


@pytest.mark.parametrize("asked", range(6), ids=["x", "router_weights", "w1", "b1", "w2", "b2"])
def test_a_gradient_asked_for_alone_is_the_same(asked):
    inputs = make(BASE, torch.bfloat16)
    leaves = [part.detach().requires_grad_(index == asked) for index, part in enumerate(inputs[:6])]
    outputs = expert_mixture(*leaves, **BASE.options, implementation="triton")
    (alone,) = torch.autograd.grad(outputs, leaves[asked], inputs[6:], allow_unused=False)
    assert_equal(
        {NAMES[2 + asked]: alone}, {NAMES[2 + asked]: run(BASE, inputs, implementation="triton")[NAMES[2 + asked]]}
    )


@plainly_or_with_least_memory
def test_second_derivatives_name_the_implementation_that_has_them(least_memory):
    inputs = make(Case(split(97), 64), torch.bfloat16)
    leaves = [part.detach().requires_grad_() for part in inputs[:6]]
    outputs = expert_mixture(*leaves, **Case(split(97), 64).options, implementation="triton", least_memory=least_memory)

    def twice(loss: Callable[[Tensor], Tensor]) -> None:
        (dx,) = torch.autograd.grad(loss(outputs[0].float()), leaves[0], create_graph=True)
        dx.float().square().sum().backward()

    with pytest.raises(NotImplementedError, match="reference"):
        twice(lambda part: part.square().sum())
