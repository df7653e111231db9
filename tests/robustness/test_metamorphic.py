"""What must not matter does not: order of samples, modalities and experts, padding, the rest of the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig

from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from folding import encoding
from modx import BottleneckEncoder, Experts, HybridExpertDisentangler, MultiLevelReconstructor
from modx.missing import PATTERNS, drop

TEXT = BertConfig(vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
SMALL = {"dim": 16, "num_heads": 2, "head_dim": 8, "ffn_dim": 16, "expert_dim": 24, "reconstructor_dim": 16}
ROUNDING = 64 * torch.finfo(torch.float64).eps  # of values around 1 after at most 20 sums in another order
SHAPES = st.integers(1, 7), st.integers(2, 9), st.integers(0, 2**16)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=ROUNDING, atol=ROUNDING)


def batch(batch_size, length, seed, pattern="frames"):
    draw = torch.Generator().manual_seed(seed)
    inputs = {
        "text": torch.randint(103, 200, (batch_size, length), generator=draw),
        "audio": torch.randn(batch_size, length + 1, 5, generator=draw, dtype=torch.float64),
        "vision": torch.randn(batch_size, length + 2, 20, generator=draw, dtype=torch.float64),
    }
    masks = {
        name: torch.arange(part.shape[1]) < torch.randint(1, part.shape[1] + 1, (batch_size, 1), generator=draw)
        for name, part in inputs.items()
    }
    return inputs, masks, drop(masks, 0.4, pattern, generator=draw)


def make_model(model_class):
    return model_class(DerlConfig(text_config=TEXT, **SMALL)).double().eval()


def each(parts, change):
    return [{name: change(name, part) for name, part in group.items()} for group in parts]


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(*SHAPES)
def test_a_score_does_not_depend_on_the_order_of_samples_or_on_the_others(model_class, batch_size, length, seed):
    model, parts = make_model(model_class), batch(batch_size, length, seed)
    scores = model(*parts).prediction
    order = torch.randperm(batch_size)
    close(model(*each(parts, lambda _, part: part[order])).prediction, scores[order])
    alone = [model(*each(parts, lambda _, part, row=row: part[row : row + 1])).prediction for row in range(batch_size)]
    close(torch.cat(alone), scores)


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(*SHAPES, st.integers(1, 6))
def test_more_padding_changes_no_score(model_class, batch_size, length, seed, more):
    model, parts = make_model(model_class), batch(batch_size, length, seed)

    def pad(_, part):
        filling = part.new_full((batch_size, more, *part.shape[2:]), 0 if part.dtype == torch.bool else 3)
        return torch.cat([part, filling], dim=1)

    close(model(*each(parts, pad)).prediction, model(*parts).prediction)


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(*SHAPES)
def test_the_order_of_modalities_changes_no_score(model_class, batch_size, length, seed):
    model, parts = make_model(model_class), batch(batch_size, length, seed)
    model.feature_mean.copy_(torch.randn(25))
    config = DerlConfig(text_config=TEXT, **SMALL | {"modalities": ["vision", "text", "audio"]})
    other = model_class(config).double().eval()
    other.load_state_dict(model.state_dict())
    close(other(*parts).prediction, model(*parts).prediction)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**16))
def test_the_order_of_experts_does_not_matter(num_experts, tokens, seed):
    torch.manual_seed(seed)
    bank, x = Experts(num_experts, 4, 5, dtype=torch.float64), torch.randn(tokens, 4, dtype=torch.float64)
    weights, order = torch.rand(tokens, num_experts, dtype=torch.float64), torch.randperm(num_experts)
    before = bank(x, weights)
    for parameter in bank.parameters():
        parameter.data = parameter.data[order]
    close(bank(x, weights[:, order]), before)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**16))
def test_the_order_of_private_and_of_shared_experts_does_not_matter(num_private, num_shared, seed):
    torch.manual_seed(seed)
    module = HybridExpertDisentangler(
        ("a", "b"), 4, 5, num_private_experts=num_private, num_shared_experts=num_shared, dtype=torch.float64
    )
    features = {name: torch.randn(2, 3, 4, dtype=torch.float64) for name in ("a", "b")}
    before = module(features)
    private, shared = torch.randperm(num_private), torch.randperm(num_shared)
    bank = torch.cat([private, num_private + private, 2 * num_private + shared])
    columns = torch.cat([private, num_private + shared])
    for parameter in module.experts.parameters():
        parameter.data = parameter.data[bank]
    for router in module.routers.values():
        router.logits.weight.data, router.logits.bias.data = router.logits.weight[columns], router.logits.bias[columns]
    after = module(features)
    for name in features:
        close(after.private[name], before.private[name])
        close(after.shared[name], before.shared[name])
        close(after.router_weights[name], before.router_weights[name][..., columns])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(0, 2**16))
def test_splitting_the_batch_changes_no_view(batch_size, tokens, seed):
    torch.manual_seed(seed)
    features = {name: torch.randn(batch_size, tokens, 4, dtype=torch.float64) for name in ("a", "b")}
    disentangle = HybridExpertDisentangler(("a", "b"), 4, 5, dtype=torch.float64)
    rebuild = MultiLevelReconstructor(("a", "b"), 4, 5, dtype=torch.float64)
    cut = int(torch.randint(1, batch_size, ()))
    whole = rebuild(features, disentangle(features))
    for rows in (slice(cut), slice(cut, None)):
        part = {name: feature[rows] for name, feature in features.items()}
        for level, expected in zip(rebuild(part, disentangle(part)), whole, strict=True):
            for name in features:
                close(level[name], expected[name][rows])


@pytest.mark.parametrize("how", ["folded", "ordinary"])
@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(*SHAPES)
def test_the_order_of_hidden_frames_does_not_matter(pattern, how, batch_size, length, seed):
    torch.manual_seed(seed)
    module = BottleneckEncoder(
        {"a": 4, "b": 4}, 8, num_tokens=2, num_heads=2, head_dim=4, max_lengths={"a": 9, "b": 9}, dtype=torch.float64
    )
    inputs = {name: torch.randn(batch_size, length, 4, dtype=torch.float64) for name in ("a", "b")}
    real = {name: torch.ones(batch_size, length, dtype=torch.bool) for name in inputs}
    keep = drop(real, 0.6, pattern, generator=torch.Generator().manual_seed(seed))
    with encoding(how):
        before = module(inputs, keep)
    for name, frames in inputs.items():
        for row in range(batch_size):
            hidden = (~keep[name][row]).nonzero().flatten()
            frames[row, hidden] = frames[row, hidden[torch.randperm(len(hidden))]]
    with encoding(how):
        after = module(inputs, keep)
    assert all(torch.equal(after[name], before[name]) for name in inputs)
