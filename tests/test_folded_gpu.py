"""Folded frames on a GPU: the outputs and gradients of wide frames. No hypothesis here: the GPU machine may be bare."""

import pytest
import torch
from torch import Tensor

from folding import encoding
from modx import BottleneckEncoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
WIDTHS, LENGTHS = {"audio": 5, "vision": 20}, {"audio": 375, "vision": 500}


def results(how: str, module: BottleneckEncoder, inputs: dict[str, Tensor], masks: dict[str, Tensor]) -> list[Tensor]:
    leaves = {name: part.detach().requires_grad_() for name, part in inputs.items()}
    with encoding(how):
        outputs = list(module(leaves, masks).values())
    loss = sum(part.float().sin().sum() for part in outputs)
    return [*outputs, *torch.autograd.grad(loss, [*leaves.values(), *module.parameters()])]


def make(dtype: torch.dtype) -> tuple[BottleneckEncoder, dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    module = BottleneckEncoder(WIDTHS, 128, num_tokens=4, max_lengths=LENGTHS, device=DEVICE, dtype=dtype)
    inputs = {name: torch.randn(16, LENGTHS[name], WIDTHS[name], device=DEVICE, dtype=dtype) for name in WIDTHS}
    masks = {name: torch.rand(part.shape[:2], device=DEVICE) < 0.7 for name, part in inputs.items()}
    masks["audio"][0] = False
    assert {choice.implementation for choice in module.explain(inputs, masks).values()} == {"folded"}
    return module, inputs, masks


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_gives_the_outputs_and_gradients_of_wide_frames(dtype, tolerance):
    module, inputs, masks = make(dtype)
    folded, ordinary = (results(how, module, inputs, masks) for how in ("folded", "ordinary"))
    for got, expected in zip(folded, ordinary, strict=True):
        # the gradient of the keys' shift is 0: on the ordinary path all of it is rounding
        assert (got - expected).norm() <= tolerance * (expected.norm() + 1)


def test_autocast_is_no_further_from_float32_than_with_wide_frames():
    module, inputs, masks = make(torch.float32)
    exact = results("ordinary", module, inputs, masks)[:2]
    errors = {}
    for how in ("folded", "ordinary"):
        with torch.autocast(DEVICE, torch.bfloat16):
            got = results(how, module, inputs, masks)[:2]
        assert {part.dtype for part in got} == {torch.float32}
        errors[how] = sum((part - want).norm() for part, want in zip(got, exact, strict=True))
    assert errors["folded"] <= 1.2 * errors["ordinary"]
