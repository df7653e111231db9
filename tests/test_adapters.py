"""LoRA on every linear layer and every bank of experts, by peft."""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from blocks import BLOCKS, every_block
from wrappers import adapt, train_adapters


class Whole(nn.Module):
    """A model that is one block: peft adapts the parts of a model, not the model itself."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs):
        return self.block(*inputs)


def outputs(module: nn.Module, inputs: tuple) -> list[Tensor]:
    return tree_leaves(module(*inputs))


@every_block
def test_adapters_are_trained_and_merged(block):
    module, inputs = adapt(Whole(block.build())), block.inputs(3)
    before = outputs(module, inputs)
    base = [part.clone() for part in module.parameters() if not part.requires_grad]
    train_adapters(module, lambda: sum(part.float().sin().sum() for part in outputs(module, inputs)))
    assert all(map(torch.equal, base, (part for part in module.parameters() if not part.requires_grad)))
    after = outputs(module, inputs)
    assert not all(torch.allclose(new, old, atol=1e-3) for new, old in zip(after, before, strict=True))
    torch.testing.assert_close(outputs(module.merge_and_unload(), inputs), after, rtol=1e-5, atol=1e-5)


@every_block
def test_every_adapter_moves_the_output(block):
    module, inputs = adapt(Whole(block.build())), block.inputs(3)
    expected = outputs(module, inputs)
    ups = [part for name, part in module.named_parameters() if "lora_B" in name]
    assert ups
    with torch.no_grad():
        for part in ups:
            part.normal_()
            moved = outputs(module, inputs)
            assert not all(map(torch.equal, moved, expected))
            part.zero_()


def test_a_disabled_adapter_changes_nothing():
    block = BLOCKS["BottleneckEncoder"]
    plain, inputs = Whole(block.build()), block.inputs(3)
    expected = outputs(plain, inputs)
    module = adapt(plain)
    train_adapters(module, lambda: sum(part.float().sin().sum() for part in outputs(module, inputs)))
    with module.disable_adapter():
        torch.testing.assert_close(outputs(module, inputs), expected, rtol=1e-4, atol=1e-5)
    assert all(map(torch.equal, outputs(module.unload(), inputs), expected))
