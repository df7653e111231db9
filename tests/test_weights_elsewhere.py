"""Weights that are elsewhere, in another form or in parts: offloaded, quantized, replicated, sharded, recomputed."""

import copy

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn
from torch.ao.quantization import quantize_dynamic
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.checkpoint import checkpoint

from blocks import every_block
from wrappers import replicate

CPU = torch.device("cpu")


def outputs(module: nn.Module, inputs: tuple) -> list[Tensor]:
    return [part for part in tree_leaves(module(*inputs)) if part is not None]


def total(parts: list[Tensor]) -> Tensor:
    return sum(part.float().sin().sum() for part in parts)


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters()]


@every_block
def test_weights_can_be_offloaded(block):
    module, inputs = block.build(), block.inputs(3)
    expected = outputs(module, inputs)
    away = cpu_offload(module, execution_device=CPU)
    assert {part.device.type for part in away.parameters()} == {"meta"}
    with torch.no_grad():
        torch.testing.assert_close(outputs(away, inputs), expected, rtol=1e-4, atol=1e-5)


@every_block
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.ao moves to torchao
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_linear_layers_can_be_quantized(block):
    module, inputs = block.build().eval(), block.inputs(3)
    expected = outputs(module, inputs)
    quantized = quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
    assert not [part for part in quantized.modules() if type(part) is nn.Linear]
    for got, want in zip(outputs(quantized, inputs), expected, strict=True):
        assert (got - want).norm() <= 0.05 * want.norm()


@every_block
def test_a_replica_of_data_parallel_works(block):
    module, inputs = block.build(), block.inputs(3)
    expected = outputs(module, inputs)
    total(expected).backward()
    want = [gradient.clone() for gradient in gradients(module)]
    module.zero_grad()
    replica = replicate(module)
    assert not list(replica.parameters())
    got = outputs(replica, inputs)
    total(got).backward()
    assert all(map(torch.equal, got, expected))
    assert all(map(torch.equal, gradients(module), want))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("fsdp") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@every_block
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")  # which nothing changes in place
def test_every_layer_can_be_sharded_on_its_own(block, mesh):
    module, inputs = block.build(), block.inputs(3)
    whole = copy.deepcopy(module)
    expected = outputs(whole, inputs)
    total(expected).backward()
    for part in reversed(list(module.modules())):  # children first
        if part is module or list(part.parameters(recurse=False)):
            fully_shard(part, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in module.parameters())
    for _ in range(2):
        module.zero_grad()
        got = outputs(module, inputs)
        total(got).backward()
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        found = {name: part.grad.full_tensor() for name, part in module.named_parameters()}
        want = {name: part.grad for name, part in whole.named_parameters()}
        torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-4)


@every_block
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_block_can_be_recomputed(block, use_reentrant):
    module, inputs = block.build(), block.inputs(3)
    leaves, spec = tree_flatten(inputs)
    leaves = [part.requires_grad_() if part.is_floating_point() else part for part in leaves]
    total(outputs(module, inputs)).backward()
    want = [gradient.clone() for gradient in gradients(module)]
    module.zero_grad()
    run = lambda *parts: tuple(outputs(module, tree_unflatten(parts, spec)))  # noqa: E731
    total(list(checkpoint(run, *leaves, use_reentrant=use_reentrant))).backward()
    torch.testing.assert_close(gradients(module), want, rtol=1e-4, atol=1e-5)  # without gradients, sums differ
