"""What is absent is never read and never learned: held for every block and loss, however it runs."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import modx.experts
from folding import encoding
from modx import Router, TransformerBlock, TransformerEncoder
from modx.losses import reconstruction_loss
from modx.ops import eager, expert_mixture
from named import LOSSES, MODULES, NAMES, by_path, draw, make, run

HEADS = {"num_heads": 2, "head_dim": 2}
POISONS = (torch.nan, torch.inf, 1e30)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def fuse(module: nn.Module, parts: list[dict[str, Tensor]], present: dict[str, Tensor], **changes) -> tuple:
    """The whole model with simulated dropping: what is absent is absent from the input and from its target."""
    kept = {name: torch.arange(3) != index for index, name in enumerate(NAMES)}
    keep = {name: mask.expand(4, 3) for name, mask in kept.items()}
    return tuple(module(parts[0], present, keep, **changes))


def fuse_states(module: nn.Module, parts: list[dict[str, Tensor]], present: dict[str, Tensor]) -> tuple:
    return fuse(module, parts, present, complete={"text": parts[1]["text"]})


def alone(call: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable:
    """A block of one sequence, which has a mask of tokens."""

    def run_alone(module: nn.Module, parts: list[dict[str, Tensor]], present: dict[str, Tensor]) -> tuple:
        x, mask = parts[0]["text"], present["text"]
        return (call(module, x, mask if mask.ndim == 2 else mask[:, None].expand(-1, 3)),)

    return run_alone


# how to build it, how to run it on three mappings, and whether absent tokens are zeros in its results
CASES: dict[str, tuple[Callable[..., nn.Module | None], Callable[..., tuple], bool]] = {
    **{name: (partial(make, name), partial(run, name), name != "BottleneckEncoder") for name in (*MODULES, *LOSSES)},
    "fusion, dropped": (partial(make, "MissingModalityFusion"), fuse, True),
    "fusion, dropped is absent": (partial(make, "MissingModalityFusion", dropped_modality="absent"), fuse, True),
    "fusion, states of a text encoder": (partial(make, "MissingModalityFusion"), fuse_states, True),
    "encoder of two blocks": (partial(make, "BottleneckEncoder", depth=2), partial(run, "BottleneckEncoder"), False),
    "disentangler, top k and wide routers": (
        partial(make, "HybridExpertDisentangler", top_k=2, router_hidden_dim=3),
        partial(run, "HybridExpertDisentangler"),
        True,
    ),
    "Router": (partial(Router, 4, 3), alone(lambda module, x, mask: module(x, mask[..., None])), True),
    "TransformerBlock": (partial(TransformerBlock, 4, **HEADS), alone(lambda module, x, mask: module(x, mask)), True),
    "TransformerEncoder": (
        partial(TransformerEncoder, 4, 2, **HEADS),
        alone(lambda module, x, mask: module(x, mask)),
        True,
    ),
    "TransformerEncoder, first rows": (
        partial(TransformerEncoder, 4, 2, **HEADS),
        alone(lambda module, x, mask: module(x, mask, num_queries=2)),
        True,
    ),
}
every_case = pytest.mark.parametrize("case", CASES)
BANKS = ("HybridExpertDisentangler", "MultiLevelReconstructor", "ModalityRouter", "fusion, dropped")


def presence(by: str) -> dict[str, Tensor]:
    """Random masks of modalities or tokens; one modality is nowhere, and one sample has nothing."""
    generator = torch.Generator().manual_seed(3)
    shape = (4,) if by == "modality" else (4, 3)
    present = {name: torch.rand(shape, generator=generator) < 0.6 for name in NAMES}
    present["audio"][:] = False
    for mask in present.values():
        mask[1] = False
    return present


def hold(
    case: str,
    present: dict[str, Tensor],
    dtype: torch.dtype = torch.float32,
    poisons: tuple[float, ...] = POISONS,
    around: Callable = lambda call: call,
) -> None:
    """Check that no content of what is absent changes a bit of outputs and gradients, and that it gets no gradient."""
    build, call, zeros = CASES[case]
    module = build(dtype=dtype)
    call = around(partial(call, module))
    parameters = [] if module is None else list(module.parameters())
    results = []
    for poison in (None, *poisons):
        leaves = [{name: x.clone() for name, x in part.items()} for part in draw(dtype=dtype)]
        for part, name in itertools.product(leaves if poison is not None else (), NAMES):
            part[name][~present[name]] = poison
        inputs = [x.requires_grad_() for part in leaves for x in part.values()]
        outputs = by_path(call(leaves, present))
        loss = sum(part.sin().sum() for part in outputs.values())
        results.append((outputs, torch.autograd.grad(loss, [*inputs, *parameters], allow_unused=True)))
    outputs, gradients = results[0]
    assert all(part.isfinite().all() for part in tree_leaves(results) if part is not None)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)
    for gradient, mask in zip(gradients, (present[name] for _ in range(3) for name in NAMES), strict=False):
        assert gradient is None or not gradient[~mask].any()
    if zeros:
        assert not any(part.any() for path, part in outputs.items() if "audio" in path)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("by", ["modality", "token"])
@every_case
def test_content_of_what_is_absent_reaches_no_output_loss_or_gradient(case, by, dtype):
    hold(case, presence(by), dtype)


@pytest.mark.parametrize("by", ["modality", "token"])
@every_case
def test_it_reaches_nothing_under_autocast(case, by):
    hold(case, presence(by), around=torch.autocast("cpu", torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, "autocast"], ids=str)
@pytest.mark.parametrize("by", ["modality", "token"])
@pytest.mark.parametrize("case", ["BottleneckEncoder", "fusion, dropped", "fusion, dropped is absent"])
def test_it_reaches_nothing_where_frames_are_folded(case, by, dtype):
    with encoding("folded"):
        if dtype == "autocast":
            hold(case, presence(by), around=torch.autocast("cpu", torch.bfloat16))
        else:
            hold(case, presence(by), dtype)


@pytest.mark.slow
@every_case
def test_it_reaches_nothing_when_compiled_as_one_graph(case):
    torch._dynamo.reset()
    compiled = partial(torch.compile, fullgraph=True, backend="aot_eager")
    hold(case, presence("token"), poisons=(torch.nan,), around=compiled)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # the interpreter's numpy
@pytest.mark.parametrize(
    "how",
    [
        {"implementation": "reference"},
        {"implementation": "eager"},
        {"implementation": "eager", "least_memory": True},
        pytest.param({"implementation": "triton"}, marks=pytest.mark.slow),
        pytest.param({"implementation": "triton", "least_memory": True}, marks=pytest.mark.slow),
        "chunked",
    ],
    ids=str,
)
@pytest.mark.parametrize("case", BANKS)
def test_it_reaches_nothing_in_any_implementation_of_the_op(case, how, monkeypatch):
    if how == "chunked":
        monkeypatch.setattr(eager, "FEW_ELEMENTS", 0)
    else:
        asked = []

        def mix(*arguments, **options):
            asked.append(arguments[0].shape)
            return expert_mixture(*arguments, **options | how)

        monkeypatch.setattr(modx.experts, "expert_mixture", mix)
    hold(case, presence("token"), poisons=(torch.nan,))
    assert how == "chunked" or asked


# left out, None and masked are the same


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*MODULES, *LOSSES])
def test_left_out_is_none_is_masked(name, training):
    module, parts = make(name), draw()
    if module is not None:
        module.train(training)
    present = {key: torch.full((4,), key != "audio") for key in NAMES}
    masked = by_path(run(name, module, [part | {"audio": torch.full((4, 3, 4), torch.nan)} for part in parts], present))
    for given in (
        [part | {"audio": None} for part in parts],
        [{key: part[key] for key in part if key != "audio"} for part in parts],
    ):
        for mask in (present, None):
            left_out = by_path(run(name, module, given, mask))
            assert left_out.keys() == {path for path in masked if "audio" not in path}
            torch.testing.assert_close(left_out, {path: masked[path] for path in left_out}, rtol=1e-6, atol=1e-6)


def test_a_sequence_of_no_frames_is_absent():
    module, (inputs, *_) = make("MissingModalityFusion"), draw()
    left_out = module({name: inputs[name] for name in ("text", "vision")})
    masks = {name: torch.ones(4, 3 if name != "audio" else 0, dtype=torch.bool) for name in NAMES}
    for mask in (None, masks):
        empty = module(inputs | {"audio": torch.zeros(4, 0, 4)}, mask)
        torch.testing.assert_close(empty.features, left_out.features)
        torch.testing.assert_close(empty.losses, left_out.losses)
        assert not empty.unimodal["audio"].any()


# the oracle: the same call without what is absent


@pytest.mark.parametrize("name", ["HybridExpertDisentangler", "MultiLevelReconstructor", "ModalityRouter"])
def test_what_is_present_is_treated_as_if_the_rest_were_not_there(name):
    module, parts = make(name, dtype=torch.float64), draw(dtype=torch.float64)
    parts = [{key: x.reshape(12, 1, 4) for key, x in part.items()} for part in parts]  # each token is a sample
    present = {key: mask.flatten() for key, mask in presence("token").items()}
    present["audio"] = torch.rand(12) < 0.5
    outputs = by_path(run(name, module, parts, present))
    sum(part.sin().sum() for part in outputs.values()).backward()
    gradients = {path: parameter.grad.clone() for path, parameter in module.named_parameters()}
    module.zero_grad()
    for pattern in itertools.product([True, False], repeat=3):
        there = dict(zip(NAMES, pattern, strict=True))
        rows = torch.stack([present[key] == there[key] for key in NAMES]).all(0)
        if any(pattern) and rows.any():
            given = [{key: part[key][rows] for key in NAMES if there[key]} for part in parts]
            alone = by_path(run(name, module, given))
            torch.testing.assert_close({path: outputs[path][rows] for path in alone}, alone)
            sum(part.sin().sum() for part in alone.values()).backward()
    for path, parameter in module.named_parameters():
        torch.testing.assert_close(gradients[path], parameter.grad)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_over_what_is_present(name):
    parts, present = draw(dtype=torch.float64), {key: torch.rand(4, 3) < 0.5 for key in NAMES}
    expected = [
        run(name, None, [{key: part[key][present[key]][None]} for part in parts]) for key in NAMES
    ]  # one modality at a time, and of it what is present alone
    torch.testing.assert_close(run(name, None, parts, present), tuple(map(sum, zip(*expected, strict=True))))


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_over_nothing_is_zero_with_a_gradient_of_zero(name):
    absent = {key: torch.zeros(4, 3, dtype=torch.bool) for key in NAMES}
    for parts, present in ((draw(), absent), ([{"text": torch.zeros(0, 3, 4)}] * 3, None)):
        leaves = [{key: x.clone().requires_grad_() for key, x in part.items()} for part in parts]
        for loss in run(name, None, leaves, present):
            assert loss == 0
            loss.backward(retain_graph=True)
        assert all(x.grad is None or not x.grad.any() for part in leaves for x in part.values())


@pytest.mark.parametrize("dropping", [False, True])
def test_a_target_that_does_not_exist_is_not_learned(dropping):
    """With 4 of 8 samples without audio, the audio's reconstructors learn what the 4 others alone teach them."""
    module = make("MissingModalityFusion", dtype=torch.float64)
    inputs = {name: torch.randn(8, 3, 4, dtype=torch.float64) for name in NAMES}
    inputs["audio"][4:] = torch.nan
    masks = {name: torch.ones(8, 3, dtype=torch.bool) for name in NAMES}
    masks["audio"][4:] = False
    keep = {name: torch.rand(8, 3) < 0.6 for name in NAMES} if dropping else None

    def learned(rows: slice) -> dict[str, Tensor]:
        module.zero_grad()
        given = (None if part is None else {name: part[name][rows] for name in NAMES} for part in (inputs, masks, keep))
        module(*given).losses.reconstruction.backward()
        audio = module.modalities.index("audio")
        return {
            f"{level}.{path}": parameter.grad[audio :: len(NAMES)].clone()
            for level, bank in module.reconstructor.networks.items()
            for path, parameter in bank.named_parameters()
        }

    every, four = learned(slice(8)), learned(slice(4))
    assert all(gradient.any() for gradient in four.values())
    torch.testing.assert_close(every, four)


def test_a_sample_without_a_modality_takes_no_part_in_its_loss():
    parts = draw(dtype=torch.float64)
    views = modx.Disentangled(parts[1], parts[2], {})
    rebuilt = modx.Reconstruction(parts[1], parts[2], parts[0], parts[1])
    present = {name: torch.tensor([True, False, True, True]) for name in NAMES}
    rows = [0, 2, 3]
    some = modx.Disentangled(*({name: part[name][rows] for name in NAMES} for part in parts[1:]), {})
    again = modx.Reconstruction(*({name: part[name][rows] for name in NAMES} for part in rebuilt))
    expected = reconstruction_loss(again, {name: parts[0][name][rows] for name in NAMES}, some)
    torch.testing.assert_close(reconstruction_loss(rebuilt, parts[0], views, present=present), expected)


# one token


@pytest.mark.parametrize("name", [*MODULES, "orthogonality_loss", "reconstruction_loss"])
def test_a_vector_is_one_token_and_its_mask_one_flag(name):
    module, tokens = make(name), [{key: x[:, :1] for key, x in part.items()} for part in draw()]
    vectors = [{key: x[:, 0] for key, x in part.items()} for part in tokens]
    present = {key: torch.rand(4, 1) < 0.5 for key in NAMES}
    expected = run(name, module, tokens, present)
    for mask in (present, {key: part[:, 0] for key, part in present.items()}):
        torch.testing.assert_close(run(name, module, vectors, mask), expected, rtol=0, atol=0)
    torch.testing.assert_close(run(name, module, vectors), run(name, module, tokens), rtol=0, atol=0)


def test_where_all_are_absent_the_fused_tokens_are_zeros():
    fused = make("ModalityRouter")(*draw()[:2], present={key: torch.zeros(4, dtype=torch.bool) for key in NAMES})
    assert not any(part.any() for part in by_path(fused).values())
