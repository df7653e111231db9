"""Blocks attend as a plain loop does, and asking for the first rows alone gives those rows and their gradients."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import oracles
from modx import TransformerBlock, TransformerEncoder

DIM = 6
SIZES = {"num_heads": 2, "head_dim": 5, "ffn_dim": 7, "dtype": torch.float64}


def stir(module: nn.Module) -> nn.Module:
    """Move every parameter off its start: a LayerNorm of ones and zeros would hide a forgotten scale or shift."""
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def block(**kwargs) -> TransformerBlock:
    return stir(TransformerBlock(DIM, **SIZES | kwargs))


def encoder(depth: int, **kwargs) -> TransformerEncoder:
    return stir(TransformerEncoder(DIM, depth, **SIZES | kwargs))


def tokens(batch_size: int, length: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(batch_size, length, DIM, dtype=torch.float64)


def masks(kind: str, batch_size: int, length: int) -> Tensor | None:
    if kind == "none":
        return None
    mask = torch.rand(batch_size, length) > 0.4
    if kind == "some hidden wholly":
        mask[0] = False
    return mask


every_mask = pytest.mark.parametrize("kind", ["none", "random", "some hidden wholly"])


def by_loops(blocks: list[nn.Module], x: Tensor, mask: Tensor | None) -> Tensor:
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    for layer in blocks:
        x = torch.stack([oracles.transformer_block(layer, *pair) for pair in zip(x, mask.tolist(), strict=True)])
    return torch.where(mask[..., None], x, 0)


def close(got, expected, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@every_mask
@pytest.mark.parametrize("depth", [1, 3])
def test_attends_as_a_loop_does(depth, kind):
    module, x, mask = encoder(depth), tokens(3, 5), masks(kind, 3, 5)
    close(module(x, mask), by_loops(list(module.blocks), x, mask))


@every_mask
@pytest.mark.parametrize("num_queries", [1, 3, 5])
def test_the_first_rows_alone_attend_as_a_loop_does(num_queries, kind):
    module, x, mask = block(), tokens(3, 5), masks(kind, 3, 5)
    close(module(x, mask, num_queries=num_queries), by_loops([module], x, mask)[:, :num_queries])


@every_mask
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("num_queries", [1, 4, 9])
def test_the_first_rows_alone_equal_the_plain_rows_and_so_do_all_gradients(num_queries, depth, kind):
    module, mask = encoder(depth), masks(kind, 4, 9)
    start, direction = tokens(4, 9), tokens(4, num_queries)

    def run(**kwargs) -> tuple[Tensor, dict[str, Tensor]]:
        module.zero_grad()
        x = start.clone().requires_grad_()
        rows = module(x, mask, **kwargs)[:, :num_queries]
        (rows * direction).sum().backward()
        return rows, {name: part.grad for name, part in (("x", x), *module.named_parameters())}

    rows, gradients = run(num_queries=num_queries)
    plain_rows, plain_gradients = run()
    assert rows.shape == (4, num_queries, DIM)
    close(rows, plain_rows)
    for name, gradient in gradients.items():
        close(gradient, plain_gradients[name])


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 3), st.integers(1, 4)),
    data=st.data(),
    seed=st.integers(0, 99),
)
def test_the_first_rows_alone_equal_the_plain_rows_at_any_shape_and_mask(sizes, data, seed):
    torch.manual_seed(seed)
    batch_size, length, num_heads, head_dim = sizes
    num_queries = data.draw(st.integers(1, length))
    bits = data.draw(st.lists(st.booleans(), min_size=batch_size * length, max_size=batch_size * length))
    mask = torch.tensor(bits).reshape(batch_size, length)
    module, x = block(num_heads=num_heads, head_dim=head_dim), tokens(batch_size, length)
    close(module(x, mask, num_queries=num_queries), module(x, mask)[:, :num_queries])


@pytest.mark.parametrize("factor", [1e3, 1e12])
def test_the_first_rows_alone_survive_tokens_and_scores_of_any_size(factor):
    module, x, mask = block(), tokens(4, 7, scale=1e4), masks("some hidden wholly", 4, 7)
    with torch.no_grad():
        module.query.weight *= factor
    rows = module(x, mask, num_queries=3)
    assert rows.isfinite().all()
    close(rows, module(x, mask)[:, :3], tolerance=1e-8)


@pytest.mark.parametrize("num_queries", [None, 2])
def test_gradients_are_those_of_what_it_computes(num_queries):
    module, mask = block(), torch.tensor([[True, False, True], [False] * 3])

    def run(x, *parameters):
        named = dict(zip(dict(module.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(module, named, (x, mask), {"num_queries": num_queries})

    assert torch.autograd.gradcheck(run, (tokens(2, 3).requires_grad_(), *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("num_queries", [None, 2])
def test_what_is_masked_changes_no_row_that_is_shown(num_queries):
    module, x = encoder(2), tokens(2, 5)
    mask = torch.tensor([[True, True, False, True, False]] * 2)
    other = torch.where(mask[..., None], x, tokens(2, 5))
    rows, same = module(x, mask, num_queries=num_queries), module(other, mask, num_queries=num_queries)
    shown = mask[:, : rows.shape[1]]
    assert torch.equal(rows[shown], same[shown])


@pytest.mark.parametrize("num_queries", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_sample_that_shows_nothing_gives_zeros_and_teaches_nothing(num_queries, dtype):
    module = block(dtype=dtype)
    x = tokens(2, 4).to(dtype).requires_grad_()
    output = module(x, torch.zeros(2, 4, dtype=torch.bool), num_queries=num_queries)
    assert not output.any()
    (output + 1).float().square().sum().backward()
    assert not any(part.grad.any() for part in (x, *module.parameters()))


def test_permuting_tokens_permutes_the_rows():
    module, x, mask, order = encoder(2), tokens(2, 5), masks("random", 2, 5), torch.tensor([3, 1, 4, 0, 2])
    close(module(x[:, order], mask[:, order]), module(x, mask)[:, order])


def test_permuting_samples_permutes_the_outputs():
    module, x, mask, order = encoder(2), tokens(3, 5), masks("some hidden wholly", 3, 5), torch.tensor([2, 0, 1])
    for num_queries in (None, 2):
        expected = module(x, mask, num_queries=num_queries)[order]
        close(module(x[order], mask[order], num_queries=num_queries), expected)


def test_all_shown_is_the_same_as_no_mask():
    module, x = encoder(2), tokens(2, 5)
    for num_queries in (None, 2):
        shown = torch.ones(2, 5, dtype=torch.bool)
        close(module(x, shown, num_queries=num_queries), module(x, num_queries=num_queries))


@pytest.mark.parametrize("num_queries", [None, 2])
def test_dropout_acts_on_both_branches_in_training_only(num_queries):
    module, x = block(dropout=1.0), tokens(2, 4)
    assert torch.equal(module(x, num_queries=num_queries), x[:, :num_queries])
    plain = block()
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module.eval()(x, num_queries=num_queries), plain(x, num_queries=num_queries))


@pytest.mark.parametrize("shape", [(0, 4, DIM), (2, 0, DIM)])
def test_nothing_gives_nothing(shape):
    module, x = encoder(2), torch.zeros(shape, dtype=torch.float64)
    assert module(x).shape == shape
    assert module(x, torch.ones(shape[:2], dtype=torch.bool)).shape == shape


def test_blocks_do_not_share_parameters():
    module = encoder(3)
    assert len({parameter.data_ptr() for parameter in module.parameters()}) == 3 * len(list(block().parameters()))


def test_a_block_has_the_size_of_the_paper():
    assert sum(p.numel() for p in TransformerBlock(128).parameters()) == 296_320


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(2, 5, 7)}, "expected x of shape (B=2, T=5, D=6), got (2, 5, 7)"),
        ({"x": torch.zeros(5, 6)}, "expected x of shape (B, T, D=6), got (5, 6)"),
        ({"mask": torch.ones(2, 5)}, "expected mask to be bool, got torch.float32; convert it"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, "expected mask of shape (B=2, T=5), got (2, 4)"),
        ({"mask": torch.ones(5, dtype=torch.bool)}, "expected mask of shape (B=2, T=5), got (5,)"),
        ({"num_queries": 0}, "expected num_queries in [1, 5], got 0"),
        ({"num_queries": -1}, "expected num_queries in [1, 5], got -1"),
        ({"num_queries": 6}, "expected num_queries in [1, 5], got 6"),
    ],
)
def test_refuses_what_does_not_fit_and_says_why(arguments, message):
    with pytest.raises(ValueError, match="^TransformerBlock " + re.escape(message)):
        encoder(1)(**{"x": torch.zeros(2, 5, DIM, dtype=torch.float64)} | arguments)


def test_refuses_to_be_without_blocks():
    with pytest.raises(ValueError, match="TransformerEncoder expected depth >= 1, got 0"):
        TransformerEncoder(DIM, 0)


def test_every_block_has_the_settings_asked_for():
    for block in TransformerEncoder(6, 2, num_heads=3, head_dim=5, ffn_dim=7, dropout=0.25).blocks:
        assert (block.num_heads, block.head_dim, block.dropout.p) == (3, 5, 0.25)
        assert block.query.weight.shape == (15, 6)
        assert block.ffn.w1.shape == (1, 7, 6)


def test_settings_start_at_those_of_the_paper():
    (block,) = TransformerEncoder(6, 1).blocks
    assert (block.num_heads, block.head_dim, block.dropout.p) == (8, 64, 0.0)
    assert block.ffn.w1.shape == (1, 6, 6)
    assert block.extra_repr() == TransformerBlock(6).extra_repr() == "6, num_heads=8, head_dim=64"
