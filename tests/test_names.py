"""Modalities are a set: held for every block that has some."""

import io
import re

import pytest
import torch
from torch import nn

from modx import Experts, Router, TransformerBlock, TransformerEncoder
from named import MODULES, draw, make, run

OTHERS = {
    "Router": lambda **kw: Router(4, 3, hidden_dim=5, **kw),
    "Router of one layer": lambda **kw: Router(4, 3, **kw),
    "Experts": lambda **kw: Experts(3, 4, 5, **kw),
    "TransformerBlock": lambda **kw: TransformerBlock(4, num_heads=2, head_dim=2, **kw),
    "TransformerEncoder": lambda **kw: TransformerEncoder(4, 2, num_heads=2, head_dim=2, **kw),
}
every_module = pytest.mark.parametrize("name", MODULES)


# names


@every_module
def test_the_order_of_names_changes_neither_keys_nor_values_nor_outputs(name):
    module, turned = make(name), make(name, names=("vision", "text", "audio"))
    assert module.modalities == turned.modalities == ("audio", "text", "vision")
    assert list(module.state_dict()) == list(turned.state_dict())
    torch.testing.assert_close(module.state_dict(), turned.state_dict(), rtol=0, atol=0)
    got, expected = run(name, turned, draw(("vision", "text", "audio"))), run(name, module, draw())
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@every_module
def test_a_checkpoint_of_other_names_is_refused_and_says_so(name):
    file = io.BytesIO()
    torch.save(make(name).state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    make(name, names=("vision", "audio", "text")).load_state_dict(state)
    message = re.escape("expected a checkpoint with modalities ('audio', 'heart', 'text'), got ('audio', 'text', 'v")
    with pytest.raises(RuntimeError, match=message):
        nn.ModuleList([make(name, names=("text", "audio", "heart"))]).load_state_dict(
            nn.ModuleList([make(name)]).state_dict()
        )
    with pytest.raises(RuntimeError, match=message):
        make(name, names=("text", "audio", "heart")).load_state_dict(state)


@pytest.mark.parametrize("bad", ["", "a.b", "type", "half", "keys", "get", "training", "_modules", "named_parameters"])
@every_module
def test_a_name_that_no_module_can_have_is_refused(name, bad):
    with pytest.raises(ValueError, match=re.escape(f"got {bad!r}; rename it.")):
        MODULES[name](("text", bad))


# starting anew


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_from_meta_to_a_fresh_module(name):
    build = (MODULES | OTHERS)[name]
    torch.manual_seed(1)
    expected = build().state_dict()
    module = build(device="meta").to_empty(device="cpu")
    for parameter in module.parameters():
        nn.init.constant_(parameter, torch.nan)
    torch.manual_seed(1)
    module.reset_parameters()
    torch.testing.assert_close(module.state_dict(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_every_layer_resets_the_parameters_that_it_owns(name):
    for path, layer in (MODULES | OTHERS)[name]().named_modules():
        owned = list(layer.parameters(recurse=False))
        for parameter in owned:
            nn.init.constant_(parameter, torch.nan)
        if owned:
            layer.reset_parameters()
        assert all(parameter.isfinite().all() for parameter in owned), path
