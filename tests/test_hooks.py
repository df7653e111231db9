"""Every submodule is run by calling it, so hooks, parametrizations and replaced forwards act."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves, tree_map

from blocks import every_block
from modx import BottleneckEncoder, Experts, MissingModalityFusion, TransformerBlock

LAYERS = ("query_norm", "key_norm", "value_norm", "query", "key", "value", "proj", "ffn_norm", "ffn")


def owners(module: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in module.named_modules() if list(part.parameters(recurse=False))}


@every_block
def test_every_module_with_parameters_is_called(block):
    module, called = block.build(), set()
    for name, part in owners(module).items():
        part.register_forward_hook(lambda *_, name=name: called.add(name))
    module(*block.inputs(3))
    assert called == owners(module).keys()


@every_block
@pytest.mark.parametrize("kind", ["pre", "forward", "backward pre", "backward"])
def test_hooks_change_no_value(block, kind):
    module = block.build()
    # without a gradient of the input, PyTorch warns that a backward hook sees that of the output
    inputs = tree_map(lambda part: part.requires_grad_() if part.is_floating_point() else part, block.inputs(3))
    expected = tree_leaves(module(*inputs))
    sum(part.sin().sum() for part in expected).backward()
    gradients = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    called = []
    for name, part in owners(module).items():
        if isinstance(part, BottleneckEncoder | MissingModalityFusion):
            continue  # PyTorch calls no backward hook of a module that returns mappings
        register = {
            "pre": part.register_forward_pre_hook,
            "forward": part.register_forward_hook,
            "backward pre": part.register_full_backward_pre_hook,
            "backward": part.register_full_backward_hook,
        }[kind]
        register(lambda *_, name=name: called.append(name))
    outputs = tree_leaves(module(*inputs))
    sum(part.sin().sum() for part in outputs).backward()
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close([part.grad for part in module.parameters()], gradients, rtol=1e-3, atol=1e-4)
    assert called


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@every_block
def test_a_parametrization_acts_as_on_the_weights_themselves(block):
    module, inputs = block.build(), block.inputs(3)
    doubled = copy.deepcopy(module)
    with torch.no_grad():
        for part in owners(doubled).values():
            if isinstance(part, nn.Linear | nn.LayerNorm):
                part.weight.mul_(2)
            elif isinstance(part, Experts):
                part.w1.mul_(2)
    for part in list(owners(module).values()):
        if isinstance(part, nn.Linear | nn.LayerNorm):
            parametrize.register_parametrization(part, "weight", Twice())
        elif isinstance(part, Experts):
            parametrize.register_parametrization(part, "w1", Twice())
    torch.testing.assert_close(tree_leaves(module(*inputs)), tree_leaves(doubled(*inputs)), rtol=1e-4, atol=1e-5)


# the fast path of the first rows


def first_rows(block: TransformerBlock, x: Tensor) -> Tensor:
    return block(x, num_queries=2)


def test_the_first_rows_of_plain_layers_need_no_keys(monkeypatch):
    block, x = TransformerBlock(8, num_heads=2, head_dim=4), torch.randn(3, 6, 8)
    monkeypatch.setattr(TransformerBlock, "_attend", None)
    assert first_rows(block, x).shape == (3, 2, 8)


@pytest.mark.parametrize("name", LAYERS)
def test_a_forward_replaced_on_a_layer_is_what_runs(name):
    block, x = TransformerBlock(8, num_heads=2, head_dim=4), torch.randn(3, 6, 8)
    layer, expected = getattr(block, name), first_rows(block, x)
    layer.forward = lambda *arguments: 3 * type(layer).forward(layer, *arguments)
    got = first_rows(block, x)
    assert not torch.allclose(got, expected, atol=1e-3)
    torch.testing.assert_close(got, block(x)[:, :2])


@pytest.mark.parametrize("name", LAYERS)
def test_a_hook_that_returns_something_else_is_obeyed(name):
    block, x = TransformerBlock(8, num_heads=2, head_dim=4), torch.randn(3, 6, 8)
    expected = first_rows(block, x)
    handle = getattr(block, name).register_forward_hook(lambda module, given, output: 3 * output)
    got = first_rows(block, x)
    assert not torch.allclose(got, expected, atol=1e-3)
    torch.testing.assert_close(got, block(x)[:, :2])
    handle.remove()
    assert torch.equal(first_rows(block, x), expected)


@pytest.mark.parametrize("kind", ["forward_pre", "forward", "full_backward_pre", "full_backward"])
def test_global_hooks_see_every_layer(kind):
    block, x = TransformerBlock(8, num_heads=2, head_dim=4), torch.randn(3, 6, 8, requires_grad=True)
    seen = set()
    register = getattr(global_hooks, f"register_module_{kind}_hook")
    handle = register(lambda module, *_: seen.add(module) and None)
    try:
        first_rows(block, x).sum().backward()
    finally:
        handle.remove()
    assert {getattr(block, name) for name in LAYERS} <= seen


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("value", nn.Linear(8, 8, bias=True)),
        ("key", nn.Linear(8, 8, bias=True)),
        ("key", nn.Sequential(nn.Linear(8, 8), nn.Tanh())),
        ("value_norm", nn.LayerNorm(8, eps=0.5)),
        ("key_norm", nn.LayerNorm(8, elementwise_affine=False)),
        ("value_norm", nn.LayerNorm(8, bias=False)),
        ("key_norm", nn.Identity()),
        ("query_norm", nn.Identity()),
    ],
)
def test_a_layer_may_be_replaced(name, layer):
    block, x = TransformerBlock(8, num_heads=2, head_dim=4), torch.randn(3, 6, 8)
    setattr(block, name, layer)
    torch.testing.assert_close(first_rows(block, x), block(x)[:, :2])
