"""Whatever the shapes, dtypes, strides, masks and magnitudes: finite where the mathematics is, and near float64."""

import math
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nearness
from folding import encoding
from modx import (
    BottleneckEncoder,
    Disentangled,
    Experts,
    HybridExpertDisentangler,
    ModalityRouter,
    MultiLevelReconstructor,
    Reconstruction,
    Router,
    TransformerBlock,
    TransformerEncoder,
    transformer,
)
from modx.losses import PENALTIES, orthogonality_loss, reconstruction_loss
from modx.metrics import ExpertLoad, RoutingEntropy, sentiment_metrics
from modx.ops import chunked, eager, expert_mixture

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DIM = 6  # sums of six products with numbers up to 1e4 stay within float16
NAMES = ("a", "b")
# examples are small as drawn, and each is dear: they are not made smaller
searched = settings(max_examples=10, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


# what is drawn


def normal(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape)


def huge(shape: tuple[int, ...]) -> Tensor:
    return 1e4 * torch.randn(shape).sign()


def subnormal(shape: tuple[int, ...]) -> Tensor:
    """Multiples of the least float16 and, below that, of no more than float32 holds."""
    return torch.randint(-9, 10, shape) * torch.where(torch.rand(shape) < 0.5, 2.0**-24, 2.0**-140)


def zeros(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape)


def constant_rows(shape: tuple[int, ...]) -> Tensor:
    """Rows without variance: 0, 1, 100 and -100."""
    return torch.tensor([0.0, 1.0, 100.0, -100.0])[torch.randint(4, (*shape[:-1], 1))].expand(shape).contiguous()


def mixed(shape: tuple[int, ...]) -> Tensor:
    parts = torch.stack([kind(shape) for kind in (normal, huge, subnormal, zeros)])
    return parts.gather(0, torch.randint(4, (1, *shape)))[0]


KINDS = {kind.__name__: kind for kind in (normal, huge, subnormal, zeros, constant_rows, mixed)}


def lay_out(part: Tensor, strides: str) -> Tensor:
    """The same numbers at other places in memory; what lies between them is nan."""
    match strides:
        case "transposed":
            return part.transpose(0, 1).contiguous().transpose(0, 1)
        case "padded":
            return F.pad(part, (1, 2), value=torch.nan)[..., 1:-2]
        case "every other":
            return torch.stack([part, torch.full_like(part, torch.nan)], 1).flatten(0, 1)[::2]
    return part


def draw_mask(kind: str, batch_size: int, length: int) -> Tensor | None:
    match kind:
        case "none":
            return None
        case "all masked":
            return torch.zeros(batch_size, length, dtype=torch.bool)
        case "one frame":
            return (torch.arange(length) == length // 2).expand(batch_size, -1)
    return torch.rand(batch_size, length) < 0.5


strides = st.sampled_from(["plain", "transposed", "padded", "every other"])
mask_kinds = st.sampled_from(["none", "all masked", "one frame", "random"])
draws = {
    "batch_size": st.integers(1, 3),
    "length": st.sampled_from([1, 3, 7]),
    "kind": st.sampled_from(list(KINDS)),
    "strides": strides,
    "mask_kind": mask_kinds,
    "seed": st.integers(0, 9999),
}


# modules, and how each is run on x (B, T, D) and a mask (B, T)


def halves(x: Tensor) -> dict[str, Tensor]:
    """Two modalities of as many tokens, the second the first backwards."""
    return {"a": x, "b": x.flip(1)}


def run_bottleneck(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    masks = None if mask is None else {"a": mask, "b": mask.flip(1)}
    return list(module(halves(x), masks).values())


def run_folded(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    with encoding("folded"):
        return run_bottleneck(module, x, mask)


def run_reconstructor(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    views = Disentangled(halves(x), halves(-x), {})
    return [part for level in module(halves(x), views) for part in level.values()]


def run_disentangler(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    return [part for field in module(halves(x)) for part in field.values()]


def run_fusion(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    present = None if mask is None else {name: mask[:, i % mask.shape[1]] for i, name in enumerate("abc")}
    fused = module({"a": x, "b": -x, "c": x / 2}, present=present)
    return [fused.features, torch.stack(list(fused.router_weights[0].values()), dim=-1)]


def run_experts(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    return [module(x), module(x, x[..., :3].tanh())]


def run_router(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    return [module(x, None if mask is None else mask[:, :, None] | torch.tensor([True, False, False, True, False]))]


def run_attention(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    return [module(x, mask)]


def run_first_row(module: nn.Module, x: Tensor, mask: Tensor | None) -> list[Tensor]:
    return [module(x, mask, num_queries=1)]


ATTENTION = {"num_heads": 2, "head_dim": 3, "ffn_dim": 5}
LENGTHS = dict.fromkeys(NAMES, 7)
MODULES = {
    "Experts": (lambda: Experts(3, DIM, 5), run_experts),
    "linear Router": (lambda: Router(DIM, 5), run_router),
    "MLP Router": (lambda: Router(DIM, 5, hidden_dim=4), run_router),
    "TransformerBlock": (lambda: TransformerBlock(DIM, **ATTENTION), run_attention),
    "TransformerBlock, first row": (lambda: TransformerBlock(DIM, **ATTENTION), run_first_row),
    "TransformerEncoder": (lambda: TransformerEncoder(DIM, 2, **ATTENTION), run_attention),
    "BottleneckEncoder": (
        lambda: BottleneckEncoder(dict.fromkeys(NAMES, DIM), DIM, num_tokens=2, max_lengths=LENGTHS, **ATTENTION),
        run_bottleneck,
    ),
    "BottleneckEncoder, folded frames": (
        lambda: BottleneckEncoder(dict.fromkeys(NAMES, DIM), DIM, num_tokens=2, max_lengths=LENGTHS, **ATTENTION),
        run_folded,
    ),
    "HybridExpertDisentangler": (
        lambda: HybridExpertDisentangler(NAMES, DIM, 5, num_private_experts=2, num_shared_experts=3),
        run_disentangler,
    ),
    "MultiLevelReconstructor": (lambda: MultiLevelReconstructor(NAMES, DIM, 5), run_reconstructor),
    "ModalityRouter": (lambda: ModalityRouter(["a", "b", "c"], DIM, 5, num_views=1), run_fusion),
}


@every_dtype
@pytest.mark.parametrize("name", MODULES)
@searched
@given(**draws)
def test_outputs_and_gradients_of_every_module_are_near_float64(
    name, dtype, batch_size, length, kind, strides, mask_kind, seed
):
    if name == "BottleneckEncoder, folded frames" and dtype.itemsize == 2:
        pytest.skip("half precision keeps frames wide, and float64 would not")
    torch.manual_seed(seed)
    make, run = MODULES[name]
    module = make().to(dtype)
    x = lay_out(KINDS[kind]((batch_size, length, DIM)).to(dtype), strides)
    mask = draw_mask(mask_kind, batch_size, length)
    nearness.assert_near_float64(module, x, lambda module, x: run(module, x, mask))


@every_dtype
@pytest.mark.parametrize("name", MODULES)
def test_equal_numbers_of_any_size_are_normalized_to_finite_ones(name, dtype):
    make, run = MODULES[name]
    module = make().to(dtype)
    x = torch.tensor([1e4, -1e4, 0.0])[:, None, None].expand(3, 2, DIM).to(dtype).requires_grad_()
    outputs = run(module, x, None)
    assert all(part.isfinite().all() for part in outputs)
    if dtype != torch.float16:  # two LayerNorms multiply a gradient by up to 1e5, more than float16 holds
        sum(part.sum() for part in outputs).backward()
        assert all(part.grad.isfinite().all() for part in (x, *module.parameters()) if part.grad is not None)


@every_dtype
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("shape", [(0, 3, DIM), (2, 0, DIM), (1, 1, DIM)])
def test_no_samples_no_tokens_and_a_single_token_have_finite_gradients(name, dtype, shape):
    if name == "TransformerBlock, first row" and not shape[1]:
        pytest.skip("there is no first row")
    make, run = MODULES[name]
    module, x = make().to(dtype), torch.randn(shape).to(dtype).requires_grad_()
    mask = None if name == "ModalityRouter" else torch.zeros(shape[:2], dtype=torch.bool)
    outputs = run(module, x, mask)
    sum(part.square().sum() for part in outputs).backward()
    gradients = [part.grad for part in (x, *module.parameters()) if part.grad is not None]
    assert all(part.isfinite().all() for part in (*outputs, *gradients))


@every_dtype
@pytest.mark.parametrize("name", ["linear Router", "MLP Router", "HybridExpertDisentangler", "ModalityRouter"])
@searched
@given(**draws | {"factor": st.sampled_from([1e-4, 30.0, 1e4])})
def test_logits_of_any_size_leave_weights_that_sum_to_one(
    name, dtype, batch_size, length, kind, strides, mask_kind, seed, factor
):
    torch.manual_seed(seed)
    make, run = MODULES[name]
    module = make().to(dtype)
    for part in module.modules():
        if isinstance(part, Router):
            last = part.logits.weight if isinstance(part.logits, nn.Linear) else part.logits.w2
            last.data *= factor if kind in ("normal", "subnormal", "zeros") else min(factor, 2)  # float16 ends at 65504
    x = lay_out(KINDS[kind]((batch_size, length, DIM)).to(dtype), strides).requires_grad_()
    outputs = run(module, x, None)
    weights = outputs[-1]
    assert weights.dtype == dtype
    torch.testing.assert_close(
        weights.double().sum(-1),
        torch.ones(weights.shape[:-1], dtype=torch.float64),
        rtol=0,
        atol=weights.shape[-1] * torch.finfo(dtype).eps,  # each weight is rounded once
    )
    (weights * torch.rand_like(weights)).sum().backward()
    gradients = [part.grad for part in (x, *module.parameters()) if part.grad is not None]
    assert all(part.isfinite().all() for part in gradients)


# the op, in every form that a CPU runs


@contextmanager
def form(name: str):
    """How the op is to be computed, as arguments."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "one by one":
            patch.setattr(eager, "FEW_ELEMENTS", 0)
        if name == "least memory":
            patch.setattr(chunked, "CHUNK_ELEMENTS", 10)
        if name == "wide":
            patch.setattr(eager, "why_unusual", lambda *tensors: "as inside a compiled graph")
        yield {
            "implementation": "reference" if name == "reference" else "eager",
            "least_memory": name == "least memory",
        }


class Mixture(nn.Module):
    """The op as a module: its banks and the weights of its tokens are parameters."""

    def __init__(self, sizes: list[int], counts: tuple[int, int], hidden_dim: int, weighted: bool) -> None:
        super().__init__()
        self.sizes, (self.num_private, self.num_shared) = sizes, counts
        num_experts = len(sizes) * counts[0] + counts[1]
        bank = Experts(max(1, num_experts), DIM, hidden_dim, 5)
        for name, part in bank.named_parameters():
            setattr(self, name, nn.Parameter(part.detach()[:num_experts]))
        weights = torch.randn(sum(sizes), sum(counts)).softmax(-1) / (1 if weighted else 2)
        self.weights = nn.Parameter(weights) if weighted else None

    def forward(self, x: Tensor, activation: str, **how: object) -> list[Tensor]:
        outputs = expert_mixture(
            x,
            self.weights,
            self.w1,
            self.b1,
            self.w2,
            self.b2,
            group_sizes=self.sizes,
            num_private=self.num_private,
            num_shared=self.num_shared,
            activation=activation,
            **how,
        )
        return list(outputs)


@every_dtype
@pytest.mark.parametrize("name", ["reference", "batched", "one by one", "least memory", "wide"])
@settings(searched, max_examples=20)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 3, 7]), max_size=3),
    counts=st.tuples(st.integers(0, 2), st.integers(0, 3)).filter(any),
    hidden_dim=st.sampled_from([1, 3, 6]),
    weighted=st.booleans(),
    activation=st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"]),
    kind=draws["kind"],
    strides=strides,
    seed=draws["seed"],
)
def test_outputs_and_gradients_of_the_op_are_near_float64_in_every_form(
    name, dtype, sizes, counts, hidden_dim, weighted, activation, kind, strides, seed
):
    torch.manual_seed(seed)
    if name == "batched":
        sizes = [size or 1 for size in sizes or [1]]  # it leaves an empty group to the others
    module = Mixture(sizes, counts, hidden_dim, weighted).to(dtype)
    x = lay_out(KINDS[kind]((sum(sizes), DIM)).to(dtype), strides)
    with form(name) as how:
        nearness.assert_near_float64(module, x, lambda module, x: module(x, activation, **how))


# attention without anything to attend to


def by_the_book(query, key, value, attn_mask=None):
    """Attention whose softmax gives nan for a row without a token, as some of PyTorch's kernels have done."""
    scores = query @ key.mT * query.shape[-1] ** -0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(-1) @ value


@every_dtype
@pytest.mark.parametrize("num_queries", [None, 1, 4])
@pytest.mark.parametrize("textbook", [False, True], ids=["as installed", "by the book"])
def test_a_sample_all_masked_is_finite_forward_and_backward_whatever_the_softmax(
    monkeypatch, dtype, num_queries, textbook
):
    if textbook:
        monkeypatch.setattr(transformer.F, "scaled_dot_product_attention", by_the_book)
    module = TransformerBlock(DIM, **ATTENTION).to(dtype)
    x = torch.randn(3, 4, DIM).to(dtype).requires_grad_()
    mask = torch.tensor([[False] * 4, [True] * 4, [False, True, False, False]])
    output = module(x, mask, num_queries=num_queries)
    alone = module(x[:1, :1], mask[:1, :1])
    torch.testing.assert_close(output[:1, :1], alone)  # attention adds the output layer's bias alone
    output.square().sum().backward()
    assert output.isfinite().all()
    assert all(part.grad.isfinite().all() for part in (x, *module.parameters()))
    learned = module.query.weight.grad.clone()
    module.zero_grad()
    module(x.detach()[1:], mask[1:], num_queries=num_queries).square().sum().backward()
    torch.testing.assert_close(module.query.weight.grad, learned)  # it teaches nothing about whom to attend to


# temperatures, by training


def train(router: Router, loss_of, learning_rate: float, steps: int = 300) -> None:
    """Plain gradient descent, with weights and gradients held to be numbers at every step."""
    parameters = [part for part in router.parameters() if part.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=learning_rate)
    x = torch.randn(20, DIM).to(router.log_temperature.dtype)
    for _ in range(steps):
        optimizer.zero_grad()
        weights = router(x)
        tolerance = weights.shape[-1] * torch.finfo(weights.dtype).eps
        assert (weights.double().sum(-1) - 1).abs().max() <= tolerance
        loss_of(weights).backward()
        assert all(part.grad.isfinite().all() for part in parameters)
        optimizer.step()


def spread(weights: Tensor) -> Tensor:
    """0 where all experts weigh the same, more the further one stands out."""
    return weights.square().sum(-1).mean() - 1 / weights.shape[-1]


every_router = pytest.mark.parametrize("hidden_dim", [None, 4], ids=["linear", "mlp"])
every_rate = pytest.mark.parametrize("learning_rate", [1.0, 1e4], ids=["small steps", "huge steps"])


@every_dtype
@every_router
@every_rate
def test_training_may_drive_the_temperature_to_zero(dtype, hidden_dim, learning_rate):
    router = Router(DIM, 5, hidden_dim=hidden_dim, temperature=1.0).to(dtype)
    router.logits.requires_grad_(False)
    train(router, lambda weights: -spread(weights), learning_rate)
    assert 0 < router.temperature < (0.3 if learning_rate == 1 else 1e-4)


@every_dtype
@every_router
@every_rate
def test_training_may_drive_the_temperature_to_infinity(dtype, hidden_dim, learning_rate):
    router = Router(DIM, 5, hidden_dim=hidden_dim, temperature=0.05).to(dtype)
    router.logits.requires_grad_(False)
    train(router, spread, learning_rate)
    assert router.temperature > (1 if learning_rate == 1 else 100)


@every_dtype
@every_router
@pytest.mark.parametrize("sign", [1, -1], ids=["to one expert", "to all"])
def test_logits_and_temperature_may_be_trained_together_without_end(dtype, hidden_dim, sign):
    router = Router(DIM, 5, hidden_dim=hidden_dim).to(dtype)
    train(router, lambda weights: -sign * spread(weights), learning_rate=10.0)


@every_dtype
@pytest.mark.parametrize("log_temperature", [-math.inf, -6e4, -100.0, -12.0, 12.0, 100.0, 6e4, math.inf])
def test_no_temperature_is_too_low_or_too_high(dtype, log_temperature):
    router = Router(DIM, 5).to(dtype)
    with torch.no_grad():
        router.log_temperature.fill_(log_temperature)
        router.logits.weight[:2] = 0  # a tie, in whatever order a product is summed
        router.logits.bias[1] = router.logits.bias[0]
    x = torch.randn(20, DIM).to(dtype)
    weights = router(x)
    torch.testing.assert_close(weights[:, 0], weights[:, 1], rtol=0, atol=0)
    best = router.logits(x).argmax(-1)
    if log_temperature < 0:
        assert (weights.gather(-1, best[:, None]) >= 0.45).all()
    elif log_temperature >= 100:
        torch.testing.assert_close(weights, torch.full_like(weights, 0.2))
    (weights * torch.randn_like(weights)).sum().backward()
    assert all(part.grad.isfinite().all() for part in router.parameters())


# losses and metrics


class Loss(nn.Module):
    """A loss as a module without parameters, of views made of x."""

    def __init__(self, penalty: str) -> None:
        super().__init__()
        self.penalty = penalty

    def forward(self, x: Tensor) -> list[Tensor]:
        views = halves(x)
        others = {name: part.roll(1, -1) for name, part in views.items()}
        rebuilt = Reconstruction(others, views, others, {name: part / 2 for name, part in views.items()})
        return [
            orthogonality_loss(Disentangled(views, others, {}), penalty=self.penalty),
            *reconstruction_loss(rebuilt, views, Disentangled(others, views, {})),
        ]


@every_dtype
@settings(searched, max_examples=12)
@given(
    penalty=st.sampled_from(list(PENALTIES)),
    **{name: draws[name] for name in ("batch_size", "length", "kind", "strides", "seed")},
)
def test_losses_are_near_float64(dtype, penalty, batch_size, length, kind, strides, seed):
    torch.manual_seed(seed)
    x = lay_out(KINDS[kind]((batch_size, length, DIM)).to(dtype), strides)
    nearness.assert_near_float64(Loss(penalty), x, lambda module, x: module(x))


@every_dtype
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("kind", ["zeros", "subnormal", "huge"])
def test_orthogonality_of_zero_tiny_and_huge_views_has_finite_gradients(dtype, penalty, kind):
    private = KINDS[kind]((2, 3, 128)).to(dtype).requires_grad_()
    shared = torch.randn(2, 3, 128).to(dtype).requires_grad_()
    loss = orthogonality_loss(Disentangled({"a": private}, {"a": shared}, {}), penalty=penalty)
    loss.backward()
    assert all(part.isfinite().all() for part in (loss, private.grad, shared.grad))


@every_dtype
def test_the_cosine_of_huge_views_of_the_papers_width_does_not_vanish(dtype):
    """The norm of 128 numbers of 1e4 is beyond float16."""
    views = {"a": huge((2, 3, 128)).to(dtype)}
    assert orthogonality_loss(Disentangled(views, views, {})).item() == pytest.approx(
        1.0, abs=4 * torch.finfo(dtype).eps
    )


@every_dtype
@searched
@given(
    rows=st.sampled_from([2, 3, 17]),
    kinds=st.tuples(st.sampled_from(["normal", "huge", "mixed"]), st.sampled_from(["normal", "huge", "mixed"])),
    seed=draws["seed"],
)
def test_scores_of_any_size_are_scored_as_in_float64(dtype, rows, kinds, seed):
    torch.manual_seed(seed)
    preds, target = (lay_out(KINDS[kind]((rows, 1)), "padded").flatten().to(dtype) for kind in kinds)
    target[0], target[1], preds[0], preds[1] = 1.0, -2.0, 0.5, 0.25  # neither constant nor all 0
    found, expected = sentiment_metrics(preds, target), sentiment_metrics(preds.double(), target.double())
    for name, value in expected.items():
        tolerance = 4 * torch.finfo(torch.float32).eps * value.abs().item()  # computed in float32 at least
        assert found[name].item() == pytest.approx(value.item(), abs=tolerance), name


@every_dtype
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask_kind", ["none", "one frame", "random"])
def test_metrics_of_a_router_are_those_in_float64(dtype, kind, mask_kind):
    weights = Router(DIM, 5).to(dtype)(KINDS[kind]((3, 7, DIM)).to(dtype)).detach()
    mask = draw_mask(mask_kind, 3, 7)
    for metric_class in (ExpertLoad, RoutingEntropy):
        metric, exact = metric_class(5), metric_class(5).set_dtype(torch.float64)
        metric.update(weights, mask)
        exact.update(weights.double(), mask)
        torch.testing.assert_close(metric.compute().double(), exact.compute(), rtol=1e-6, atol=1e-6)
