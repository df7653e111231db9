"""Every block works with the rest of PyTorch: compilers, autocast, copies, checkpoints, meta tensors, DDP."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

from blocks import BLOCKS, every_block, features, present
from modx import Experts
from modx._modalities import reset
from modx.losses import orthogonality_loss, reconstruction_loss
from modx.ops.eager import FEW_ELEMENTS


def cast(inputs: tuple, dtype: torch.dtype) -> tuple:
    return tree_map(lambda part: part.to(dtype) if part.is_floating_point() else part, inputs)


def outputs_and_gradients(run: Callable, module: nn.Module, inputs: tuple) -> tuple[list[Tensor], dict[str, Tensor]]:
    module.zero_grad()
    outputs = tree_leaves(run(*inputs))
    sum(part.to(torch.promote_types(part.dtype, torch.float32)).sin().sum() for part in outputs).backward()
    return outputs, {name: parameter.grad for name, parameter in module.named_parameters()}


def relative_error(got: Tensor, expected: Tensor) -> float:
    return ((got.float() - expected).norm() / expected.norm().clamp_min(1e-6)).item()


# gradients and looks


@every_block
def test_every_parameter_gets_a_gradient(block):
    module = block.build()
    _, gradients = outputs_and_gradients(module, module, block.inputs(3))
    assert gradients
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())


@every_block
def test_says_what_it_is_made_of(block):
    module = block.build()
    assert (module if module.extra_repr() else next(module.children())).extra_repr()


# compilers


@every_block
def test_compiles_as_one_graph_with_the_same_outputs_and_gradients(block):
    torch._dynamo.reset()
    # float64: an encoder folds frames if it is not compiled, and in float32 the two differ by more than the tolerance
    module, inputs = block.build(dtype=torch.float64), cast(block.inputs(3), torch.float64)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    got, expected = (outputs_and_gradients(run, module, inputs) for run in (compiled, module))
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # inductor's own
def test_inductor_compiles_experts_to_the_same_outputs_and_gradients():
    torch._dynamo.reset()
    module, inputs = BLOCKS["Experts"].build(), BLOCKS["Experts"].inputs(3)
    compiled = torch.compile(module, fullgraph=True)
    got, expected = (outputs_and_gradients(run, module, inputs) for run in (compiled, module))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_losses_compile_as_one_graph_with_the_blocks():
    torch._dynamo.reset()
    disentangle, rebuild = (BLOCKS[name].build() for name in ("HybridExpertDisentangler", "MultiLevelReconstructor"))

    def step(corrupted: dict[str, Tensor], complete: dict[str, Tensor]) -> Tensor:
        seen, whole = disentangle(corrupted), disentangle(complete)
        rebuilt = rebuild(corrupted, seen)
        orthogonality = orthogonality_loss(seen, penalty="square", present=there)
        return orthogonality + reconstruction_loss(rebuilt, complete, whole, detach_target=True, present=there).total

    there, inputs = present(3), (features(3), features(3))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), step(*inputs))


@every_block
def test_exports_for_any_batch_size(block):
    module, batch = block.build(), torch.export.Dim("batch", min=1, max=64)
    inputs = block.inputs(3)
    exported = torch.export.export(module, inputs, dynamic_shapes=tree_map(lambda _: {0: batch}, inputs)).module()
    for batch_size in (1, 7):
        other = block.inputs(batch_size)
        torch.testing.assert_close(tree_leaves(exported(*other)), tree_leaves(module(*other)))


def test_no_number_of_tokens_is_special_to_an_exported_bank():
    bank, few = Experts(1, 8, 2**10), FEW_ELEMENTS // 2**10  # where the eager form changes
    tokens = torch.export.Dim("tokens", min=1)
    exported = torch.export.export(bank, (torch.randn(3, 8),), dynamic_shapes=({0: tokens},)).module()
    for count in (1, few + 1):
        x = torch.randn(count, 8)
        torch.testing.assert_close(exported(x), bank(x))


# dtypes


@every_block
def test_autocast_stays_near_float32(block):
    module, inputs = block.build(), block.inputs(16)
    expected, expected_gradients = outputs_and_gradients(module, module, inputs)

    def run(*arguments):
        with torch.autocast("cpu", torch.bfloat16):
            return module(*arguments)

    outputs, gradients = outputs_and_gradients(run, module, inputs)
    for got, want in zip(outputs, expected, strict=True):
        assert got.shape == want.shape
        assert got.isfinite().all()
        assert relative_error(got, want) < 0.03
    for name, gradient in gradients.items():
        assert gradient.isfinite().all()
        assert (
            relative_error(gradient, expected_gradients[name]) < 0.1
            or expected_gradients[name].norm() < block.negligible
        )


@every_block
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_is_that_of_its_parameters_and_outputs(block, dtype):
    module, inputs = block.build(dtype=dtype), cast(block.inputs(3), dtype)
    assert {parameter.dtype for parameter in module.parameters()} == {dtype}
    outputs, gradients = outputs_and_gradients(module, module, inputs)
    assert {part.dtype for part in outputs} == {dtype}
    wide = copy.deepcopy(module).double()
    for got, want in zip(outputs, tree_leaves(wide(*cast(inputs, torch.float64))), strict=True):
        assert relative_error(got, want.float()) < (1e-6 if dtype == torch.float64 else 0.05)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@every_block
def test_dtype_can_be_changed_after_the_fact(block):
    module = block.build().double()
    assert {part.dtype for part in tree_leaves(module(*cast(block.inputs(3), torch.float64)))} == {torch.float64}


# the meta device


@every_block
def test_builds_on_the_meta_device_and_takes_its_parameters_from_a_checkpoint(block):
    trained, module = block.build(), block.build(device="meta")
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    module.load_state_dict(trained.state_dict(), assign=True)
    inputs = block.inputs(3)
    assert all(map(torch.equal, tree_leaves(module(*inputs)), tree_leaves(trained(*inputs))))


@every_block
def test_gives_the_shapes_of_its_outputs_on_the_meta_device(block):
    module, inputs = block.build(device="meta"), block.inputs(3)
    outputs = tree_leaves(module(*tree_map(lambda part: part.to("meta"), inputs)))
    expected = tree_leaves(block.build()(*inputs))
    assert {part.device.type for part in outputs} == {"meta"}
    assert [part.shape for part in outputs] == [part.shape for part in expected]


@every_block
def test_a_reset_after_the_meta_device_gives_a_new_module(block):
    torch.manual_seed(1)
    new = block.build()
    module = block.build(device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for part in module.state_dict().values():
            part.fill_(float("nan"))
    torch.manual_seed(1)
    reset(module)
    torch.testing.assert_close(module.state_dict(), new.state_dict(), rtol=0, atol=0)


# copies and checkpoints


@every_block
def test_a_deep_copy_is_equal_and_apart(block):
    module, inputs = block.build(), block.inputs(3)
    clone = copy.deepcopy(module)
    expected = tree_leaves(module(*inputs))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(map(torch.equal, tree_leaves(clone(*inputs)), expected))


@every_block
def test_pickling_changes_nothing(block):
    module, inputs = block.build(), block.inputs(3)
    clone = pickle.loads(pickle.dumps(module))
    assert repr(clone) == repr(module)
    assert all(map(torch.equal, tree_leaves(clone(*inputs)), tree_leaves(module(*inputs))))


@every_block
def test_a_checkpoint_restores_it(block):
    module, other, inputs = block.build(), block.build(), block.inputs(3)
    expected = tree_leaves(module(*inputs))
    assert not all(map(torch.equal, tree_leaves(other(*inputs)), expected))
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert all(map(torch.equal, tree_leaves(other(*inputs)), expected))


@every_block
def test_the_state_is_the_parameters_and_nothing_else(block):
    module = block.build()
    assert set(module.state_dict()) == set(dict(module.named_parameters()))


# DDP


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("ddp") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@every_block
@pytest.mark.usefixtures("process_group")
def test_ddp_finds_no_parameter_unused_step_after_step(block):
    module = block.build()
    parallel = DistributedDataParallel(copy.deepcopy(module))
    for _ in range(2):
        inputs = block.inputs(3)
        _, gradients = outputs_and_gradients(parallel, parallel.module, inputs)
        torch.testing.assert_close(gradients, outputs_and_gradients(module, module, inputs)[1])
