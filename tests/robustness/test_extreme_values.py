"""Outputs and gradients are finite wherever the mathematics is, and as near to float64 as rounding allows."""

import copy
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modx import (
    BottleneckEncoder,
    HybridExpertDisentangler,
    ModalityRouter,
    MultiLevelReconstructor,
    Router,
    TransformerBlock,
)
from modx.losses import orthogonality_loss, reconstruction_loss
from modx.metrics import ConstantInputWarning, sentiment_metrics
from modx.ops import eager, expert_mixture

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
SCALES = {  # what inputs look like
    "usual": lambda x: x,
    "large": lambda x: 1e4 * x.clamp(-1, 1),
    "subnormal": lambda x: x * 2 * torch.finfo(x.dtype).smallest_normal,
    "zero": torch.zeros_like,
    "constant": lambda x: torch.full_like(x, 1e4),
    "mixed": lambda x: torch.where(x > 0, 1e4, 1e-6).to(x.dtype),
}
FORMS = ["reference", "batched", "chunked", "least memory", "wide"]
MANY = settings(max_examples=60, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**16)


def strided(x):
    """The same values, not contiguous."""
    return torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0]


def mixture(form, tensors, sizes, patch):
    x, weights, *bank = tensors
    group_sizes, num_private, num_shared = sizes
    options = {"group_sizes": group_sizes, "num_private": num_private, "num_shared": num_shared}
    if form == "chunked":
        patch.setattr(eager, "FEW_ELEMENTS", 0)
    if form == "wide":
        patch.setattr(eager, "_can_be_a_function", lambda inputs: False)
    options["implementation"] = "reference" if form == "reference" else "eager"
    return expert_mixture(x, weights, *bank, **options, least_memory=form == "least memory")


def differentiate(outputs, tensors, incoming):
    """Gradients of those outputs that have any: an empty sum has none."""
    pairs = [(part, grad) for part, grad in zip(outputs, incoming, strict=True) if part.requires_grad]
    if not pairs:
        return [None] * len(tensors)
    outputs, incoming = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, tensors, incoming, allow_unused=True)


def magnitudes(tensors, sizes, incoming):
    """Sums of absolute values of all terms, of outputs and of gradients: what rounding errors are relative to.

    GELU and its derivative stay below 1.13 times the identity's; its second derivative, below 0.8, passes on to a
    gradient the error of what goes into it.
    """
    leaves = [part.detach().double().abs().requires_grad_() for part in tensors]
    x, weights, *bank = leaves
    group_sizes, num_private, num_shared = sizes
    options = {"group_sizes": group_sizes, "num_private": num_private, "num_shared": num_shared}
    outputs = expert_mixture(x, weights, *bank, **options, activation="relu", implementation="reference")
    total = sum((part * grad.double().abs()).sum() for part, grad in zip(outputs, incoming, strict=True))
    gradients = torch.autograd.grad(total, leaves)
    w1, b1 = bank[0].detach(), bank[1].detach()
    hidden = (x.detach() @ w1.flatten(0, 1).T + b1.flatten()).max().item() if x.numel() else 0.0
    return [1.13 * part.detach() for part in outputs], [1.13 * (1 + hidden) * part for part in gradients]


@pytest.mark.parametrize("form", FORMS)
@MANY
@given(
    st.sampled_from(DTYPES),
    st.sampled_from(sorted(SCALES)),
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.tuples(st.integers(0, 2), st.integers(0, 2)).filter(any),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    SEEDS,
)
def test_a_mixture_is_as_near_to_float64_as_rounding_allows(form, dtype, scale, groups, counts, dims, apart, seed):
    torch.manual_seed(seed)
    (num_private, num_shared), (in_dim, hidden, out_dim) = counts, dims
    experts = len(groups) * num_private + num_shared
    x = SCALES[scale](torch.randn(sum(groups), in_dim, dtype=dtype))
    weights = torch.rand(sum(groups), num_private + num_shared).softmax(-1).to(dtype)
    bank = [
        torch.randn(experts, hidden, in_dim, dtype=dtype) / in_dim,
        torch.randn(experts, hidden, dtype=dtype),
        torch.randn(experts, hidden, out_dim, dtype=dtype) / hidden,
        torch.randn(experts, out_dim, dtype=dtype),
    ]
    tensors = [(strided(part) if apart else part).detach().requires_grad_() for part in (x, weights, *bank)]
    exact = [part.detach().double().requires_grad_() for part in tensors]
    sizes = groups, num_private, num_shared
    with pytest.MonkeyPatch.context() as patch:
        outputs = mixture(form, tensors, sizes, patch)
        incoming = [torch.randn_like(part) / 16 for part in outputs]
        gradients = differentiate(outputs, tensors, incoming)
    expected = mixture("reference", exact, sizes, None)
    wanted = differentiate(expected, exact, [part.double() for part in incoming])
    sums, slopes = magnitudes(tensors, sizes, incoming)
    terms = in_dim + hidden + num_private + num_shared + sum(groups) + 8  # Higham: n terms, n roundings at most
    eps, least = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal
    limit = torch.finfo(dtype).max
    for got, true, size in zip([*outputs, *gradients], [*expected, *wanted], [*sums, *slopes], strict=True):
        if got is None or true is None:
            assert got is None or not got.any()
            continue
        possible = true.abs() < limit / 2
        assert got[possible].isfinite().all()
        error = (got.double() - true).abs()
        assert (error <= terms * (eps * size + least))[possible & (size < limit)].all()


def finite_with_gradients(module, run):
    outputs = run(module)
    assert all(part.isfinite().all() for part in outputs)
    gradients = torch.autograd.grad(
        sum(part.float().sum() for part in outputs), [*module.parameters()], allow_unused=True
    )
    assert all(part is None or part.isfinite().all() for part in gradients)
    return outputs


def near(module, run, outputs, dtype, bound):
    """Against the same weights in float64; ``bound`` in units of the dtype's rounding."""
    expected = run(copy.deepcopy(module).double())
    for got, true in zip(outputs, expected, strict=True):
        size = 1 + true.abs().max() if true.numel() else 1
        assert ((got.double() - true).abs() <= bound * torch.finfo(dtype).eps * size).all()


BLOCKS = {
    "router": lambda dtype: Router(6, 3, dtype=dtype),
    "router of two layers": lambda dtype: Router(6, 3, hidden_dim=5, dtype=dtype),
    "block": lambda dtype: TransformerBlock(6, num_heads=2, head_dim=4, dtype=dtype),
}


@pytest.mark.parametrize("name", BLOCKS)
@MANY
@given(st.sampled_from(DTYPES), st.sampled_from(sorted(SCALES)), st.integers(1, 4), st.integers(1, 9), SEEDS)
def test_blocks_stay_finite_and_near_float64(name, dtype, scale, batch_size, tokens, seed):
    torch.manual_seed(seed)
    module = BLOCKS[name](dtype)
    x = strided(SCALES[scale](torch.randn(batch_size, tokens, 6, dtype=dtype)))
    mask = torch.rand(batch_size, tokens) > 0.5  # some samples show nothing

    def run(module):
        values = x.to(next(module.parameters()).dtype)
        if "router" in name:
            return [module(values)]
        return [module(values, mask), module(values, mask, num_queries=1)]

    outputs = finite_with_gradients(module, run)
    if scale in ("usual", "zero", "subnormal"):  # a large row is a large logit, or, centred, noise: finite is all
        near(module, run, outputs, dtype, bound=64)


@MANY
@given(st.sampled_from(DTYPES), st.sampled_from(sorted(SCALES)), st.integers(1, 4), st.integers(1, 9), SEEDS)
def test_the_whole_chain_stays_finite(dtype, scale, batch_size, tokens, seed):
    torch.manual_seed(seed)
    names = ("a", "b")
    encoder = BottleneckEncoder(
        {"a": 6, "b": 3}, 8, num_tokens=2, num_heads=2, head_dim=4, max_lengths={"a": 9, "b": 9}, dtype=dtype
    )
    disentangle = HybridExpertDisentangler(names, 8, 5, dtype=dtype)
    rebuild = MultiLevelReconstructor(names, 8, 5, dtype=dtype)
    fuse = ModalityRouter(4, 8, 5, dtype=dtype)
    chain = torch.nn.ModuleList([encoder, disentangle, rebuild, fuse])
    inputs = {
        name: strided(SCALES[scale](torch.randn(batch_size, tokens, width, dtype=dtype)))
        for name, width in (("a", 6), ("b", 3))
    }
    masks = {name: torch.rand(batch_size, tokens) > 0.5 for name in names}
    masks["b"][0] = False  # a modality that is not there at all

    def run(chain):
        encoder, disentangle, rebuild, fuse = chain
        dtype = next(chain.parameters()).dtype
        features = encoder({name: part.to(dtype) for name, part in inputs.items()}, masks)
        views = disentangle(features)
        rebuilt = rebuild(features, views)
        present = torch.stack([masks[name].any(1) for name in names * 2], dim=1)
        fused = fuse([*views.private.values(), *views.shared.values()], present)
        losses = [reconstruction_loss(rebuilt, features, views).total]
        losses += [orthogonality_loss(views.private, views.shared, penalty=penalty) for penalty in ("cosine", "square")]
        return [*fused, *losses]

    outputs = finite_with_gradients(chain, run)
    weights, some = outputs[1], (masks["a"].any(1) | masks["b"].any(1)).float()[:, None].expand(batch_size, 2)
    torch.testing.assert_close(weights.float().sum(-1), some, rtol=0, atol=4 * torch.finfo(dtype).eps)
    if scale in ("usual", "zero", "subnormal"):
        near(chain, run, outputs, dtype, bound=256)


@pytest.mark.parametrize(("sign", "limit"), [(1, "one expert"), (-1, "all alike")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_may_drive_a_temperature_to_nothing_or_without_end(sign, limit, dtype):
    """Adam with a rate of 1 on sharpness alone: e^-300 and e^300 are neither in float32."""
    torch.manual_seed(0)
    router = Router(6, 4, dtype=dtype)
    x = torch.randn(32, 6, dtype=dtype)
    optimizer = torch.optim.Adam([router.log_temperature], lr=1.0)
    for _ in range(300):
        weights = router(x)
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.float().sum(-1), torch.ones(32), rtol=0, atol=8 * torch.finfo(dtype).eps)
        optimizer.zero_grad()
        (sign * router.log_temperature.sum() - sign * weights.square().sum()).backward()
        assert all(part.grad is None or part.grad.isfinite().all() for part in router.parameters())
        optimizer.step()
    weights = router(x)
    assert router.log_temperature.abs() > 100
    assert weights.isfinite().all()
    if limit == "all alike":
        torch.testing.assert_close(weights, torch.full_like(weights, 0.25), rtol=0, atol=4 * torch.finfo(dtype).eps)
    else:
        assert (weights.max(-1).values > 0.49).all()  # ties, in bfloat16, share


@MANY
@given(st.lists(st.floats(-1e4, 1e4, width=16), min_size=1, max_size=20), SEEDS)
def test_metrics_of_any_finite_scores_are_finite_or_said_to_be_undefined(scores, seed):
    torch.manual_seed(seed)
    preds, target = torch.tensor(scores), 3 * torch.rand(len(scores)) - 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        found = sentiment_metrics(preds, target)
    exact = (preds.double() - target.double()).abs().mean()
    torch.testing.assert_close(found["mae"].double(), exact, rtol=1e-6, atol=1e-6)
    assert all(0 <= found[name] <= 1 for name in found if name.startswith(("acc", "f1")))
