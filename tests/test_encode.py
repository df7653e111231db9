"""Sequences become bottleneck tokens as loops say, whatever lies behind their masks and however they are padded."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracles
from folding import encoding
from modx import BottleneckEncoder

INPUT_DIMS = {"one": 3, "two words": 2}
MAX_LENGTHS = {"two words": 9, "one": 7}
SIZES = {"num_tokens": 2, "num_heads": 2, "head_dim": 3, "ffn_dim": 5, "max_lengths": MAX_LENGTHS}


@pytest.fixture(scope="module", autouse=True, params=["folded", "ordinary"])
def implementation(request):
    """Every test runs on both paths; two blocks are never folded."""
    with encoding(request.param):
        yield


def make(**kwargs) -> BottleneckEncoder:
    """Every parameter is moved off its start, so that no scale of one or shift of zero hides a mistake."""
    module = BottleneckEncoder(INPUT_DIMS, 4, **{"dtype": torch.float64} | SIZES | kwargs)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def draw(batch_size: int = 2, lengths=(5, 6), dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {
        name: torch.randn(batch_size, length, dim, dtype=dtype)
        for (name, dim), length in zip(INPUT_DIMS.items(), lengths, strict=True)
    }


def masks_of(inputs: dict[str, Tensor], rate: float = 0.5) -> dict[str, Tensor]:
    return {name: torch.rand(part.shape[:2]) >= rate for name, part in inputs.items()}


def by_loops(module: BottleneckEncoder, inputs: dict[str, Tensor], masks: dict[str, Tensor] | None) -> dict:
    encoded = {}
    for name in module.modalities:
        samples, positions = [], module.positions[name].tolist()
        for sample, frames in enumerate(inputs[name].tolist()):
            shown = [True] * len(frames) if masks is None else masks[name][sample].tolist()
            rows = module.tokens.tolist() + [oracles.linear(module.projections[name], frame) for frame in frames]
            rows = [[a + b for a, b in zip(row, p, strict=True)] for row, p in zip(rows, positions, strict=False)]
            x = oracles.tensor(rows, 4)
            for block in module.transformers[name].blocks:
                x = oracles.transformer_block(block, x, [True] * module.num_tokens + shown)
            samples.append(x[: module.num_tokens])
        encoded[name] = torch.stack(samples)
    return encoded


def close(got, expected, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_encodes_as_loops_do(depth, masked):
    module, inputs = make(depth=depth), draw()
    masks = masks_of(inputs) if masked else None
    close(module(inputs, masks), by_loops(module, inputs, masks))


@settings(max_examples=15, deadline=None)
@given(
    batch_size=st.integers(1, 3),
    lengths=st.tuples(st.integers(0, 7), st.integers(0, 9)),
    num_tokens=st.integers(1, 3),
    rate=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_encodes_as_loops_do_at_any_length_and_mask(batch_size, lengths, num_tokens, rate, seed):
    torch.manual_seed(seed)
    module, inputs = make(num_tokens=num_tokens), draw(batch_size, lengths)
    masks = masks_of(inputs, rate)
    close(module(inputs, masks), by_loops(module, inputs, masks))


def test_gradients_are_those_of_what_it_computes():
    module = BottleneckEncoder({"a": 3}, 4, dtype=torch.float64, **SIZES | {"max_lengths": {"a": 3}})
    frames = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    masks = {"a": torch.tensor([[True, False, True], [False] * 3])}

    def run(frames, *parameters):
        named = dict(zip(dict(module.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(module, named, ({"a": frames}, masks))["a"]

    assert torch.autograd.gradcheck(run, (frames, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_padding_changes_nothing(depth, dtype, tolerance):
    module = BottleneckEncoder(INPUT_DIMS, 4, depth=depth, dtype=dtype, **SIZES)
    inputs = draw(lengths=(5, 6), dtype=dtype)
    masks = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
    expected = module(inputs, masks)
    close(module(inputs), expected, tolerance)
    for extra in (1, 2):
        padded = {name: F.pad(part, (0, 0, 0, extra), value=torch.nan) for name, part in inputs.items()}
        longer = {name: F.pad(mask, (0, extra)) for name, mask in masks.items()}
        close(module(padded, longer), expected, tolerance)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_sequence_wholly_masked_gives_what_no_frames_give_with_finite_gradients(depth):
    module, inputs = make(depth=depth), draw()
    encoded = module(inputs, {name: torch.zeros(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()})
    close(encoded, module(draw(lengths=(0, 0))))
    for part in encoded.values():
        close(part[0], part[1])
    sum(part.square().sum() for part in encoded.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_an_empty_batch_gives_no_tokens(depth, masked):
    inputs = draw(batch_size=0)
    encoded = make(depth=depth)(inputs, masks_of(inputs) if masked else None)
    assert {name: part.shape for name, part in encoded.items()} == dict.fromkeys(INPUT_DIMS, (0, 2, 4))


def test_sequences_may_be_as_long_as_promised():
    encoded = make()(draw(lengths=(7, 9)))
    assert {name: part.shape for name, part in encoded.items()} == dict.fromkeys(INPUT_DIMS, (2, 2, 4))


def test_modalities_share_the_bottleneck_tokens_and_nothing_else():
    module, inputs = make(), draw()
    encoded = module(inputs)
    encoded["one"].sum().backward()
    used = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert "tokens" in used
    assert all(name == "tokens" or "one" in name.split(".") for name in used)
    close(module(inputs | {"two words": torch.full((2, 6, 2), torch.nan, dtype=torch.float64)})["one"], encoded["one"])


def test_positions_tell_frames_apart():
    module, inputs = make(), draw()
    encoded, turned = module(inputs), module({name: part.flip(1) for name, part in inputs.items()})
    assert not torch.allclose(encoded["one"], turned["one"])


def test_tokens_and_positions_start_small():
    module = BottleneckEncoder({"a": 3}, 64, num_tokens=50, max_lengths={"a": 200})
    for parameter in (module.tokens, module.positions["a"]):
        assert parameter.std().item() == pytest.approx(0.02, rel=0.1)
        assert parameter.mean().abs().item() < 0.002


def test_permuting_samples_permutes_the_tokens():
    module, inputs, order = make(depth=2), draw(4), torch.tensor([2, 0, 3, 1])
    masks = masks_of(inputs)

    def take(parts):
        return {name: part[order] for name, part in parts.items()}

    close(module(take(inputs), take(masks)), take(module(inputs, masks)))


def test_has_the_size_of_the_paper():
    module = BottleneckEncoder(
        {"text": 768, "audio": 5, "vision": 20},
        128,
        num_tokens=4,
        max_lengths={"text": 50, "audio": 375, "vision": 500},
    )
    assert sum(p.numel() for p in module.parameters()) == 101_888 + 512 + 119_936 + 3 * 296_320


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"two words": torch.zeros(2, 10, 2)}, "expected at most 9 frames of 'two words', got 10"),
        ({"one": torch.zeros(2, 8, 3)}, "expected at most 7 frames of 'one', got 8"),
        ({"two words": torch.zeros(2, 5, 3)}, "expected inputs['two words'] of shape (B=2, N=5, D=2), got (2, 5, 3)"),
        ({"two words": torch.zeros(3, 5, 2)}, "expected inputs['two words'] of shape (B=2, N, D=2), got (3, 5, 2)"),
        ({"two words": torch.zeros(5, 2)}, "expected inputs['two words'] of shape (B=2, N, D=2), got (5, 1, 2)"),
        (
            {"two words": torch.zeros(2, 5, 2, dtype=torch.long)},
            "expected inputs['two words'] in a floating-point dtype, got torch.int64",
        ),
        (
            {"c": torch.zeros(2, 5, 2)},
            "expected inputs with one or more of the modalities ('one', 'two words') and no others, "
            "got ('one', 'two words', 'c')",
        ),
    ],
)
def test_refuses_inputs_that_do_not_fit_and_names_the_modality(inputs, message):
    inputs = draw(dtype=torch.float32) | inputs
    with pytest.raises(ValueError, match="^BottleneckEncoder " + re.escape(message)):
        make(dtype=torch.float32)(inputs)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 6), "masks['two words'] to be bool, got torch.float32; convert it"),
        (torch.ones(2, 5).bool(), "masks['two words'] of shape (B=2, N=6), got (2, 5)"),
        (torch.ones(6).bool(), "masks['two words'] of shape (B=2,), got (6,)"),
        (None, "masks for the modalities ('one', 'two words'), got ('one',); add 'two words'"),
    ],
)
def test_refuses_masks_that_do_not_fit_and_names_the_modality(mask, message):
    inputs = draw()
    masks = {name: part for name, part in (masks_of(inputs) | {"two words": mask}).items() if part is not None}
    with pytest.raises(ValueError, match="^BottleneckEncoder expected " + re.escape(message)):
        make()(inputs, masks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lengths": {"one": 5}}, "expected max_lengths for modalities ('one', 'two words'), got ('one',)"),
        ({"num_tokens": 0}, "expected num_tokens >= 1, got 0"),
        ({"input_dims": {}}, "expected keys of input_dims to be one or more distinct names, got {}"),
    ],
)
def test_refuses_a_configuration_that_does_not_fit(arguments, message):
    with pytest.raises(ValueError, match="^BottleneckEncoder " + re.escape(message)):
        BottleneckEncoder(**{"input_dims": INPUT_DIMS, "dim": 4} | SIZES | arguments)


def test_refuses_frames_in_another_dtype_than_its_parameters():
    encode = BottleneckEncoder({"a": 3}, 8, num_tokens=2, max_lengths={"a": 5}, num_heads=2, head_dim=4)
    with pytest.raises(
        ValueError, match=r"expected inputs\['a'\] in torch\.float32, the dtype of its weights, got torch\.float64"
    ):
        encode({"a": torch.zeros(2, 5, 3, dtype=torch.float64)})


def test_every_transformer_has_the_settings_asked_for():
    module = BottleneckEncoder(
        {"a": 2, "b": 3}, 6, num_tokens=2, depth=2, num_heads=3, head_dim=5, ffn_dim=7, max_lengths={"a": 4, "b": 4}
    )
    blocks = [block for transformer in module.transformers.values() for block in transformer.blocks]
    assert [(block.num_heads, block.head_dim) for block in blocks] == [(3, 5)] * 4
    assert [block.ffn.w1.shape for block in blocks] == [(1, 7, 6)] * 4
