"""Folded frames give what wide frames give, outputs and gradients, and are never made wide."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from folding import encoding
from modx import BottleneckEncoder

SIZES = {"dim": 24, "num_tokens": 4, "num_heads": 3, "head_dim": 5}
LENGTH = 20


def make(width: int = 5, dtype: torch.dtype = torch.float64, **sizes) -> BottleneckEncoder:
    """Every parameter is moved off its start, so that no scale of one or shift of zero hides a mistake."""
    module = BottleneckEncoder({"a": width}, **{"max_lengths": {"a": LENGTH}, "dtype": dtype} | SIZES | sizes)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def results(implementation: str, module: nn.Module, frames: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """The output, and the gradients of frames and parameters for an incoming gradient that no symmetry cancels."""
    frames = frames.detach().requires_grad_()
    with encoding(implementation):
        encoded = module({"a": frames}, None if mask is None else {"a": mask})["a"]
    incoming = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaves = {"frames": frames, **dict(module.named_parameters())}
    gradients = torch.autograd.grad(encoded, list(leaves.values()), incoming.to(encoded.dtype))
    return {"output": encoded.detach(), **dict(zip(leaves, gradients, strict=True))}


def assert_equal_results(module: nn.Module, frames: Tensor, mask: Tensor | None = None) -> None:
    folded, ordinary = (results(how, module, frames, mask) for how in ("folded", "ordinary"))
    torch.testing.assert_close(folded.pop("output"), ordinary.pop("output"), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded, ordinary, rtol=1e-11, atol=1e-11)


def errors(module: nn.Module, frames: Tensor, mask: Tensor | None = None) -> dict[str, dict[str, float]]:
    """Errors of both in float32, relative to the norm of each result in float64."""
    exact = results("ordinary", copy.deepcopy(module).double(), frames.double(), mask)
    found = {how: results(how, module, frames, mask) for how in ("folded", "ordinary")}
    return {
        how: {name: ((part.double() - exact[name]).norm() / exact[name].norm()).item() for name, part in parts.items()}
        for how, parts in found.items()
    }


# the same results


@pytest.mark.parametrize("masked", ["no", "some", "a whole sample", "all"])
@pytest.mark.parametrize(
    ("batch_size", "length", "width", "sizes"),
    [
        (3, LENGTH, 5, {}),
        (3, 7, 5, {}),
        (1, LENGTH, 5, {}),
        (3, LENGTH, 5, {"num_tokens": 1}),
        (2, 1, 1, {"num_tokens": 1, "num_heads": 1, "head_dim": 1}),
        (3, 0, 5, {}),
        (3, LENGTH, 24, {"head_dim": 16}),
        (3, LENGTH, 40, {"num_tokens": 2}),
    ],
)
def test_gives_the_outputs_and_gradients_of_wide_frames(batch_size, length, width, sizes, masked):
    frames = torch.randn(batch_size, length, width, dtype=torch.float64)
    mask = None if masked == "no" else torch.rand(batch_size, length) < 0.6
    if masked == "a whole sample":
        mask[-1] = False
    if masked == "all":
        mask[:] = False
    assert_equal_results(make(width, **sizes), frames, mask)


@pytest.mark.parametrize("shape", [(3, 5), (0, 7, 5)], ids=["one frame", "no samples"])
def test_a_frame_without_a_sequence_and_a_batch_without_samples(shape):
    assert_equal_results(make(), torch.randn(shape, dtype=torch.float64))


def test_frames_at_any_place_in_memory():
    frames = torch.randn(LENGTH, 10, 3, dtype=torch.float64).permute(2, 0, 1)[..., ::2]
    assert_equal_results(make(), frames, (torch.rand(LENGTH, 3) < 0.5).T)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e300])
def test_what_is_masked_is_never_read_and_never_learned(poison):
    module, frames, mask = make(), torch.randn(3, LENGTH, 5, dtype=torch.float64), torch.rand(3, LENGTH) < 0.6
    expected = results("folded", module, frames, mask)
    got = results("folded", module, frames.masked_fill(~mask[..., None], poison), mask)
    assert all(torch.equal(part, expected[name]) for name, part in got.items())
    assert not got["frames"][~mask].any()


def test_a_projection_may_have_no_bias():
    module = make()
    module.projections["a"] = nn.Linear(5, 24, bias=False, dtype=torch.float64)
    assert_equal_results(module, torch.randn(3, LENGTH, 5, dtype=torch.float64))


def test_dropout_in_a_block_acts():
    module, frames = make(), torch.randn(3, LENGTH, 5, dtype=torch.float64)
    module.transformers["a"].blocks[0].dropout.p = 0.5
    with encoding("folded"):
        one, other = (module({"a": frames})["a"] for _ in range(2))
        module.eval()
        assert_equal_results(module, frames)
    assert not torch.allclose(one, other)
    assert not torch.allclose(one[0] - one[1], other[0] - other[1])


# float32


def test_float32_is_as_exact_as_with_wide_frames():
    total = {"folded": 0.0, "ordinary": 0.0}
    for seed in range(5):
        torch.manual_seed(seed)
        module = make(20, torch.float32, dim=64, num_heads=4, head_dim=16, max_lengths={"a": 200})
        found = errors(module, torch.randn(8, 200, 20), torch.rand(8, 200) < 0.8)
        for how, parts in found.items():
            parts.pop("transformers.a.blocks.0.key_norm.bias")  # its gradient is 0, and all of it rounding
            total[how] += sum(parts.values())
    assert total["folded"] <= 1.2 * total["ordinary"]


@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-3])
def test_no_digits_are_lost_where_projection_and_position_nearly_cancel(distance):
    """Positions are near minus the projected frames, so that variances are the squares of small differences."""
    module, frames = make(5, torch.float32), torch.randn(1, LENGTH, 5).expand(3, -1, -1)
    with torch.no_grad():
        frames = frames + distance * torch.randn(3, LENGTH, 5)
        noise = distance * torch.randn(LENGTH, 24)
        module.positions["a"][4:] = noise - module.projections["a"](frames[0])
    found = errors(module, frames)
    for name in ("output", "frames", "positions.a", "projections.a.weight"):
        assert found["folded"][name] <= 2 * found["ordinary"][name]  # of a few numbers, the largest is chance


@pytest.mark.parametrize("weight", ["zeros", "one column twice", "rank one", "constant columns", "tiny"])
def test_gradients_are_right_where_the_projection_lacks_full_rank(weight):
    module = make()
    with torch.no_grad():
        part = module.projections["a"].weight
        if weight == "zeros":
            part.zero_()
        elif weight == "one column twice":
            part[:, 1] = part[:, 0]
        elif weight == "rank one":
            part[:] = part[:, :1] * torch.arange(5)
        elif weight == "constant columns":
            part[:] = 2.0
        else:
            part *= 1e-160
    assert_equal_results(module, torch.randn(3, LENGTH, 5, dtype=torch.float64))


# what is computed


class Largest(TorchDispatchMode):
    """Remember the elements of the largest tensor that an operation returns, views left aside."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if all(value.alias_info is None for value in func._schema.returns):
            self.elements = max([self.elements, *(p.numel() for p in tree_leaves(result) if isinstance(p, Tensor))])
        return result


@pytest.mark.parametrize("train", [False, True])
def test_nothing_is_as_wide_as_the_model_for_every_frame(train):
    module = make(3, dim=64, num_tokens=2, num_heads=2, head_dim=4, max_lengths={"a": 150})
    frames = torch.randn(32, 150, 3, dtype=torch.float64)
    with Largest() as seen:
        if train:
            results("folded", module, frames, torch.rand(32, 150) < 0.5)
        else:
            with torch.no_grad(), encoding("folded"):
                module({"a": frames})
    assert seen.elements == 32 * 152 * 4  # scores: samples, places, queries


def test_gradients_can_be_differentiated():
    module, frames = make(3, dim=6, num_heads=2, head_dim=2), torch.randn(2, 4, 3, dtype=torch.float64)
    mask = torch.tensor([[True, False, True, True], [False] * 4])

    def second(how: str) -> list[Tensor]:
        leaf = frames.clone().requires_grad_()
        leaves = [leaf, *module.parameters()]
        with encoding(how):
            output = module({"a": leaf}, {"a": mask})["a"]
        gradients = torch.autograd.grad(output.sin().sum(), leaves, create_graph=True)
        return torch.autograd.grad(
            sum(part.square().sum() for part in gradients), leaves, allow_unused=True, materialize_grads=True
        )

    torch.testing.assert_close(second("folded"), second("ordinary"), rtol=1e-9, atol=1e-9)


def test_frozen_parameters_get_no_gradient_and_change_no_other():
    module, frames = make(), torch.randn(3, LENGTH, 5, dtype=torch.float64)
    expected = results("folded", module, frames)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("blocks" in name)
    with encoding("folded"):
        encoded = module({"a": frames})["a"]
    incoming = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    encoded.backward(incoming)
    for name, parameter in module.named_parameters():
        assert (parameter.grad is None) == ("blocks" not in name)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name])


def test_saved_tensors_can_be_moved():
    module, frames = make(), torch.randn(3, LENGTH, 5, dtype=torch.float64)
    expected = results("folded", module, frames)
    with torch.autograd.graph.save_on_cpu():
        got = results("folded", module, frames)
    assert all(torch.equal(part, expected[name]) for name, part in got.items())


def test_the_backward_pass_may_run_inside_autocast():
    module, frames = make(5, torch.float32), torch.randn(3, LENGTH, 5)
    expected = results("folded", module, frames)
    with torch.autocast("cpu", torch.bfloat16):
        got = results("folded", module, frames)
    for name, part in got.items():
        assert part.dtype == torch.float32
        if not name.endswith("key_norm.bias"):  # 0
            assert (part - expected[name]).norm() < 0.05 * expected[name].norm()


@pytest.mark.parametrize("frames_dtype", [torch.float32, torch.bfloat16])
def test_autocast_returns_the_dtype_of_wide_frames_and_is_no_further_from_float32(frames_dtype):
    module, frames = make(20, torch.float32, dim=64, max_lengths={"a": 150}), torch.randn(8, 150, 20).to(frames_dtype)
    with encoding("ordinary"):
        exact = module({"a": frames.float()})["a"]
    error = {}
    for how in ("folded", "ordinary"):
        with encoding(how), torch.autocast("cpu", torch.bfloat16):
            got = module({"a": frames})["a"]
        assert got.dtype == torch.float32
        error[how] = (got - exact).norm()
    assert error["folded"] <= 1.2 * error["ordinary"] <= 0.03 * exact.norm()


# which runs


LONG = {"max_lengths": {"a": 150}}


def explained(module: nn.Module, frames: Tensor) -> tuple[str, str]:
    return module.explain({"a": frames})["a"]


def test_narrow_frames_of_enough_samples_are_folded():
    module, frames = make(**LONG), torch.randn(8, 150, 5, dtype=torch.float64)
    choice = module.explain({"a": frames}, {"a": torch.ones(8, 150, dtype=torch.bool)})["a"]
    assert choice == ("folded", "frames stay 5 wide")
    with Largest() as seen:
        module({"a": frames})
    assert seen.elements < 8 * 150 * 24


@pytest.mark.parametrize(
    ("change", "shape", "reason"),
    [
        ({"depth": 2}, (8, 150, 5), "frames attend to one another in all blocks but the last"),
        ({"dtype": torch.bfloat16}, (8, 150, 5), "parameters in torch.bfloat16"),
        ({"width": 24}, (8, 150, 24), "frames 24 wide, no less than the model's 24"),
        ({}, (7, 150, 5), "fewer than 8 samples, which gain nothing"),
    ],
)
def test_explains_why_frames_are_made_wide(change, shape, reason):
    module = make(**LONG | change)
    assert explained(module, torch.zeros(shape, dtype=module.tokens.dtype)) == ("ordinary", reason)


def test_meta_tensors_and_subclasses_take_the_ordinary_path():
    class Named(Tensor):
        pass

    frames = torch.randn(8, 150, 5, dtype=torch.float64)
    expected = ("ordinary", "meta tensors or subclasses of Tensor")
    assert explained(make(**LONG), frames.as_subclass(Named)) == expected
    assert explained(make(**LONG).to("meta"), frames.to("meta")) == expected


PARTS: dict[str, Callable[[BottleneckEncoder], nn.Module]] = {
    "projection": lambda module: module.projections["a"],
    "positions": lambda module: module.positions,
    "transformer": lambda module: module.transformers["a"],
    "block": lambda module: module.transformers["a"].blocks[0],
    "key": lambda module: module.transformers["a"].blocks[0].key,
    "value_norm": lambda module: module.transformers["a"].blocks[0].value_norm,
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_with_a_hook_is_called(name):
    module, frames, called = make(**LONG), torch.randn(8, 150, 5, dtype=torch.float64), []
    expected = module({"a": frames})["a"]
    assert explained(module, frames)[0] == "folded"
    PARTS[name](module).register_forward_hook(lambda *_: called.append(name))
    torch.testing.assert_close(module({"a": frames})["a"], expected, rtol=1e-12, atol=1e-12)
    assert called == [name]
    assert explained(module, frames) == ("ordinary", "a layer has hooks or is no plain layer")


@pytest.mark.parametrize("name", PARTS)
def test_a_forward_replaced_on_a_part_is_what_runs(name):
    module, frames = make(**LONG), torch.randn(8, 150, 5, dtype=torch.float64)
    expected, part = module({"a": frames})["a"], PARTS[name](module)
    part.forward = lambda *given, **named: 3 * type(part).forward(part, *given, **named)
    assert not torch.allclose(module({"a": frames})["a"], expected, atol=1e-3)


@pytest.mark.parametrize("name", ["query_norm", "query", "proj", "ffn_norm", "ffn", "dropout"])
def test_other_parts_are_called_when_folded(name):
    module, frames, called = make(**LONG), torch.randn(8, 150, 5, dtype=torch.float64), []
    getattr(module.transformers["a"].blocks[0], name).register_forward_hook(lambda *_: called.append(name))
    assert explained(module, frames)[0] == "folded"
    module({"a": frames})
    assert set(called) == {name}


def test_global_hooks_see_every_part():
    module, frames, seen = make(**LONG), torch.randn(8, 150, 5, dtype=torch.float64), set()
    handle = global_hooks.register_module_forward_hook(lambda module, *_: seen.add(module) and None)
    try:
        module({"a": frames})
    finally:
        handle.remove()
    assert seen >= {part(module) for part in PARTS.values()}


def test_a_parametrized_projection_acts():
    class Twice(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return 2 * weight

    module, frames = make(**LONG), torch.randn(8, 150, 5, dtype=torch.float64)
    doubled = copy.deepcopy(module)
    doubled.projections["a"].weight.data.mul_(2)
    parametrize.register_parametrization(module.projections["a"], "weight", Twice())
    torch.testing.assert_close(module({"a": frames}), doubled({"a": frames}), rtol=1e-12, atol=1e-12)


# compilers and transforms


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph_at_any_length(dynamic):
    torch._dynamo.reset()
    module = make(**LONG)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for length in (150, 40):
        frames = torch.randn(8, length, 5, dtype=torch.float64)
        torch.testing.assert_close(compiled({"a": frames}), module({"a": frames}), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("strict", [False, True])
def test_exports_for_any_batch_size_and_length(strict):
    module = make(**LONG)
    sizes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("length", min=1, max=150)}
    given = {"a": torch.randn(8, 120, 5, dtype=torch.float64)}, {"a": torch.rand(8, 120) < 0.8}
    exported = torch.export.export(module, given, dynamic_shapes=({"a": sizes}, {"a": sizes}), strict=strict).module()
    for batch_size, length in ((1, 150), (11, 20)):
        frames, mask = torch.randn(batch_size, length, 5, dtype=torch.float64), torch.rand(batch_size, length) < 0.8
        got, expected = (run({"a": frames}, {"a": mask}) for run in (exported, module))
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch.func.jvp's own
def test_transforms_take_the_ordinary_path():
    module, frames = make(**LONG), torch.randn(2, 8, 30, 5, dtype=torch.float64)

    def run(part: Tensor) -> Tensor:
        return module({"a": part})["a"]

    expected = torch.stack([run(part) for part in frames])
    torch.testing.assert_close(torch.func.vmap(run)(frames), expected, rtol=1e-11, atol=1e-11)
    leaf = frames[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(run(leaf).sin().sum(), leaf)
    found = torch.func.grad(lambda part: run(part).sin().sum())(frames[0])
    torch.testing.assert_close(found, gradient, rtol=1e-11, atol=1e-11)
    tangent = torch.randn_like(frames[0])
    _, moved = torch.func.jvp(lambda part: run(part).sin().sum(), (frames[0],), (tangent,))
    torch.testing.assert_close(moved, (gradient * tangent).sum(), rtol=1e-10, atol=1e-10)
