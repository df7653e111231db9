"""Every public callable of modx with bad values for each argument, and what the error says of them.

python tests/robustness/scripts/errors.py > tests/robustness/errors.txt
"""

import ast
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

import modx
import modx.metrics
from modx import Disentangled, Reconstruction
from modx.missing import patterns

HOME = Path(modx.__file__).resolve().parent
CHECKS = "_checks.py"
MODULES = (modx, modx.ops, modx.missing, modx.losses, modx.metrics)

EXEMPT = {  # callables, with the reason that they have no row
    "modx.Disentangled": "a NamedTuple: a result, checked by what takes it",
    "modx.Reconstruction": "a NamedTuple: a result, checked by what takes it",
    "modx.Fused": "a NamedTuple: a result",
    "modx.FusionOutput": "a NamedTuple: a result",
    "modx.FusionLosses": "a NamedTuple: a result",
    "modx.ops.Choice": "a NamedTuple: a result",
    "modx.losses.ReconstructionLoss": "a NamedTuple: a result",
    "modx.metrics.ConstantInputWarning": "a warning, raised by the library alone",
    "modx.metrics.ExpertLoad.compute": "takes nothing; nan before the first token, as documented",
    "modx.metrics.RoutingEntropy.compute": "takes nothing; nan before the first token, as documented",
    "modx.Experts.reset_parameters": "takes nothing",
    "modx.Router.reset_parameters": "takes nothing",
    "modx.TransformerBlock.reset_parameters": "takes nothing",
    "modx.TransformerEncoder.reset_parameters": "takes nothing",
    "modx.BottleneckEncoder.reset_parameters": "takes nothing",
    "modx.MissingModalityFusion.reset_parameters": "takes nothing",
}
EXEMPT_ARGUMENTS = {  # of any callable
    "device": "torch names a device that it does not know, and lists those that it does",
    "kwargs": "torchmetrics names an option that it does not know",
}
ELSEWHERE = {  # a raise, by file and function, that only a test of its own can reach
    ("_pretrained.py", "from_pretrained"): "tests/test_model.py::test_a_config_of_other_names_is_refused",
    (
        "missing/patterns.py",
        "apply",
    ): "tests/missing/test_register.py::test_keep_masks_of_other_modalities_are_refused_by_name",
    ("metrics.py", ""): "tests/test_metrics.py::test_without_torchmetrics_the_error_names_the_extra",
    (
        "ops/triton/register.py",
        "_refuse",
    ): "tests/ops/test_triton.py::test_a_second_derivative_names_the_implementation_that_has_one",
}

IMPERATIVES = (
    "add|ask|bring|build|call|cast|check|choose|compare|convert|copy|correct|count|cut|delete|drop|embed|evaluate|"
    "find|fit|flatten|get|give|install|join|leave|lengthen|list|load|lower|make|move|name|pad|pass|put|raise|"
    "read|rebuild|rename|repair|reshape|return|save|shorten|stack|train|truncate|update|use|write"
)


# An expectation that says by itself what to pass.
PLAIN = (
    r"of shape \([^()]*\), got \([\d, ]*\)\.$|"  # a shape spelled by its letters, as in (E=3, H)
    r"(of type \w+( or \w+)?|to be a floating-point torch.dtype or None|to be one of \(.*\)), got .*\.$|"
    r"(to hold integers|at least one modality|modalities \(.*\) and no others|modalities \(.*\) of \S+), got .*\.$|"
    r"name to be a new name without spaces or plus signs, not one of \(.*\), got .*\.$|"
    r"(>= \S+|== \S+|in \[\S+, \S+\]), got \S+\.$|"
    r"of a shape that broadcasts to \([\d, ]*\), got \([\d, ]*\)\.$|"
    r"order to contain each of the modalities \(.*\) once, got .*\.$|"
    r"expected \w+(\[.+\])? to be (an?|distinct names|one of) [^;]+, (got|found) [^;]+\.$|"
    r"finite \w+ in every row, got .*\.$|"
    r"to return a keep mask for each of \(.*\), got .*\.$"
)


def has_remedy(message: str) -> bool:
    """Whether a message ends in what to do, or in an expectation that says it."""
    return re.search(rf"{PLAIN}|; ([^;]*, (so |or )?)?({IMPERATIVES})\b[^;]*\.$", message) is not None


class Row(NamedTuple):
    """A call that is right but for one argument, and words of its error: what was expected and what came."""

    name: str
    argument: str
    value: Any
    words: str
    error: type[Exception]
    also: dict[str, Any]

    def call(self) -> Any:
        function, arguments = VALID[self.name]
        return function(**arguments | self.also | {self.argument: self.value})


def mask(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def views(private: torch.Tensor | None = None, shared: torch.Tensor | None = None) -> Disentangled:
    parts = [{"a": zeros(2, 3, 8) if part is None else part} for part in (private, shared)]
    return Disentangled(*parts, {})


def scores(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers)


A = {"a": zeros(2, 3, 8)}
MASKS = {"a": mask(2, 4), "b": mask(2, 5)}
BANK = {"w1": zeros(3, 4, 8), "b1": zeros(3, 4), "w2": zeros(3, 4, 6), "b2": zeros(3, 6)}
MIXTURE = {"x": zeros(5, 8), "router_weights": zeros(5, 2), **BANK, "group_sizes": (3, 2)}
MIXTURE |= {"num_private": 1, "num_shared": 1}
# but w2, whose last side is the output's width
SPELLED = {"w1": "E=3, H=4, D_in=8", "b1": "E=3, H=4", "b2": "E=3, D_out=6", "router_weights": "T=5, K=2"}
WRONG_GROUPS = [
    ((4,), "sum(group_sizes) == 5, got 4"),
    ((3, 3), "sum(group_sizes) == 5, got 6"),
    ((), "sum(group_sizes) == 5, got 0"),
    ((6, -1), "group_sizes[1] >= 0, got -1"),
]
GROUPS_OF_WRONG_TYPE = [
    (5, "group_sizes of type Collection, got 5"),
    ("32", "group_sizes[0] of type int, got '3'"),
    ((2.5, 2.5), "group_sizes[0] of type int, got 2.5"),
]
ATTENTION = {"num_heads": 2, "head_dim": 4}
SEQUENCES = {"input_dims": {"a": 6}, "dim": 8, "num_tokens": 2, "max_lengths": {"a": 9}, **ATTENTION}
REBUILT = Reconstruction(A, A, A, A)
SENTIMENT = {"preds": scores(0.1, 0.2), "target": scores(1.0, -1.0)}


def register_once(**arguments: Any) -> None:
    """Register a pattern, and forget it."""
    with patch.dict(patterns._PATTERNS):
        modx.missing.register_pattern(**arguments)


VALID: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "modx.Router": (modx.Router, {"dim": 8, "num_experts": 3}),
    "modx.Router.forward": (modx.Router(8, 3), {"x": zeros(2, 5, 8)}),
    "modx.Experts": (modx.Experts, {"num_experts": 3, "in_dim": 8, "hidden_dim": 4}),
    "modx.Experts.forward": (modx.Experts(3, 8, 4), {"x": zeros(2, 5, 8)}),
    "modx.HybridExpertDisentangler": (
        modx.HybridExpertDisentangler,
        {"modalities": ("a", "b"), "dim": 8, "hidden_dim": 4},
    ),
    "modx.HybridExpertDisentangler.forward": (modx.HybridExpertDisentangler(("a",), 8, 4), {"features": A}),
    "modx.MultiLevelReconstructor": (modx.MultiLevelReconstructor, {"modalities": ["a"], "dim": 8, "hidden_dim": 4}),
    "modx.MultiLevelReconstructor.forward": (
        modx.MultiLevelReconstructor(("a",), 8, 4),
        {"features": A, "disentangled": views()},
    ),
    "modx.ModalityRouter": (modx.ModalityRouter, {"modalities": ("a", "b"), "dim": 8, "hidden_dim": 4}),
    "modx.ModalityRouter.forward": (
        lambda views, names=("a",), **options: modx.ModalityRouter(names, 8, 4)(*views, **options),
        {"views": (A, A)},
    ),
    "modx.TransformerBlock": (modx.TransformerBlock, {"dim": 8, **ATTENTION}),
    "modx.TransformerBlock.forward": (modx.TransformerBlock(8, **ATTENTION), {"x": zeros(2, 5, 8)}),
    "modx.TransformerEncoder": (modx.TransformerEncoder, {"dim": 8, "depth": 1, **ATTENTION}),
    "modx.TransformerEncoder.forward": (modx.TransformerEncoder(8, 1, **ATTENTION), {"x": zeros(2, 5, 8)}),
    "modx.BottleneckEncoder": (modx.BottleneckEncoder, SEQUENCES),
    "modx.BottleneckEncoder.forward": (modx.BottleneckEncoder(**SEQUENCES), {"inputs": {"a": zeros(2, 9, 6)}}),
    "modx.BottleneckEncoder.explain": (modx.BottleneckEncoder(**SEQUENCES).explain, {"inputs": {"a": zeros(2, 9, 6)}}),
    "modx.MissingModalityFusion": (modx.MissingModalityFusion, SEQUENCES),
    "modx.MissingModalityFusion.forward": (modx.MissingModalityFusion(**SEQUENCES), {"inputs": {"a": zeros(2, 9, 6)}}),
    "modx.collate": (modx.collate, {"samples": [{"a": zeros(2, 6)}, {"a": zeros(6)}]}),
    "modx.ops.expert_mixture": (modx.ops.expert_mixture, MIXTURE),
    "modx.ops.explain": (modx.ops.explain, MIXTURE),
    "modx.losses.orthogonality_loss": (modx.losses.orthogonality_loss, {"disentangled": views()}),
    "modx.losses.reconstruction_loss": (
        modx.losses.reconstruction_loss,
        {"reconstruction": REBUILT, "target_features": A, "target_disentangled": views()},
    ),
    "modx.losses.load_balance": (modx.losses.load_balance, {"router_weights": A}),
    "modx.missing.drop": (modx.missing.drop, {"masks": MASKS, "rate": 0.5}),
    "modx.missing.register_pattern": (register_once, {"name": "new", "function": modx.missing.drop_frames}),
    "modx.missing.parse_pattern": (modx.missing.parse_pattern, {"pattern": "frames"}),
    "modx.missing.drop_frames": (modx.missing.drop_frames, {"mask": mask(2, 4), "rate": 0.5}),
    "modx.missing.drop_block": (modx.missing.drop_block, {"mask": mask(2, 4), "rate": 0.5}),
    "modx.missing.drop_bursts": (
        modx.missing.drop_bursts,
        {"mask": mask(2, 4), "rate": 0.5, "mean_length": 2},
    ),
    "modx.missing.drop_modalities": (modx.missing.drop_modalities, {"masks": MASKS, "rate": 0.5}),
    "modx.missing.keep_modalities": (modx.missing.keep_modalities, {"masks": MASKS, "available": ["a"]}),
    "modx.missing.drop_together": (modx.missing.drop_together, {"masks": MASKS, "rate": 0.5}),
    "modx.missing.unequal_rates": (modx.missing.unequal_rates, {"masks": MASKS, "rate": 0.5}),
    "modx.missing.erase": (
        modx.missing.erase,
        {"values": zeros(2, 4, dtype=torch.long), "keep": mask(2, 4), "unk_token_id": 1},
    ),
    "modx.metrics.sentiment_metrics": (modx.metrics.sentiment_metrics, SENTIMENT),
    "modx.metrics.SentimentMetrics": (modx.metrics.SentimentMetrics, {}),
    "modx.metrics.SentimentMetrics.update": (modx.metrics.SentimentMetrics().update, SENTIMENT),
    "modx.metrics.ExpertLoad": (modx.metrics.ExpertLoad, {"num_experts": 3}),
    "modx.metrics.ExpertLoad.update": (modx.metrics.ExpertLoad(3).update, {"router_weights": zeros(2, 5, 3)}),
    "modx.metrics.RoutingEntropy": (modx.metrics.RoutingEntropy, {"num_experts": 3}),
    "modx.metrics.RoutingEntropy.update": (modx.metrics.RoutingEntropy(3).update, {"router_weights": zeros(2, 5, 3)}),
}


def make_rows() -> Iterator[Row]:
    def wrong(name: str, argument: str, value: Any, words: str, **also: Any) -> Row:
        return Row(f"modx.{name}", argument, value, words, ValueError, also)

    def mistyped(name: str, argument: str, value: Any, words: str, **also: Any) -> Row:
        return Row(f"modx.{name}", argument, value, words, TypeError, also)

    def sizes(name: str, *arguments: str, optional: tuple[str, ...] = (), least: int = 1) -> Iterator[Row]:
        for argument in (*arguments, *optional):
            for value in (least - 1, -3):
                yield wrong(name, argument, value, f"{argument} >= {least}, got {value}")
            for value in (2.5, float("nan"), True, "8", [8]) + (() if argument in optional else (None,)):
                yield mistyped(name, argument, value, f"{argument} of type int, got {value!r}")

    def dtypes(name: str) -> Iterator[Row]:
        for value in ("float32", torch.int64, torch.complex64, 32):
            yield mistyped(name, "dtype", value, f"dtype to be a floating-point torch.dtype or None, got {value!r}")

    def choices(name: str, argument: str) -> Iterator[Row]:
        for value in ("other", "", None, 3, ["gelu"]):
            yield wrong(name, argument, value, f"{argument} to be one of")

    def tensors(name: str, argument: str, optional: bool = False) -> Iterator[Row]:
        for value in ([[1.0]], 1.0, "words") + (() if optional else (None,)):
            yield mistyped(name, argument, value, f"{argument} of type Tensor, got {value!r}")

    def temperatures(name: str) -> Iterator[Row]:
        for value in (0.0, -1, float("nan"), float("inf")):
            words = f"a finite temperature >= 6.104e-05, got {value!r}"
            yield wrong(name, "temperature", value, words)
        for value in ("1", True, scores(1.0)):
            yield mistyped(name, "temperature", value, "temperature of type float, got")

    def dropouts(name: str) -> Iterator[Row]:
        for value in (-0.1, 1.5, float("nan")):
            yield wrong(name, "dropout", value, f"dropout in [0, 1], got {value!r}")
        for value in ("0.1", None, True, scores(0.1)):
            yield mistyped(name, "dropout", value, "dropout of type float, got")

    def best(name: str, most: int) -> Iterator[Row]:
        for value in (0, -3, most + 1):
            yield wrong(name, "top_k", value, f"top_k in [1, {most}], got {value}")
        for value in (2.5, float("nan"), True, "8", [8]):
            yield mistyped(name, "top_k", value, f"top_k of type int, got {value!r}")

    def names(name: str) -> Iterator[Row]:
        for value in ((), "text", ("a", "a"), ("a", 1), None, 3, [["a"]]):
            yield wrong(name, "modalities", value, f"modalities to be one or more distinct names, got {value!r}")
        for value in ("", "a.b", "type"):
            yield wrong(name, "modalities", ("a", value), f"nn.ModuleDict or nn.ParameterDict, got {value!r}")

    def presence(name: str, argument: str, tokens: int) -> Iterator[Row]:
        for value in (mask(2), ["a"]):
            yield mistyped(name, argument, value, " of type Mapping, got ")
        for value in ({}, {"b": mask(2)}):
            yield wrong(name, argument, value, f"{argument} for the modalities ('a',), got {tuple(value)}; add 'a'")
        yield mistyped(name, argument, {"a": [True]}, f"{argument}['a'] of type Tensor, got [True]")
        for found, letters in ((mask(3), "B=2"), (mask(2, tokens + 1), f"B=2, N={tokens}"), (mask(), "B=2, N=")):
            words = f"{argument}['a'] of shape ({letters}"
            yield wrong(name, argument, {"a": found}, words)
        for found in (zeros(2, tokens), zeros(2)):
            yield wrong(name, argument, {"a": found}, f"{argument}['a'] to be bool, got torch.float32; convert it")

    def features(name: str, argument: str, width: int) -> Iterator[Row]:
        for value in (None, [zeros(2, 3, width)], zeros(2, 3, width)):
            yield mistyped(name, argument, value, " of type Mapping, got ")
        for value in ({}, {"a": None}):
            yield wrong(name, argument, value, "the modalities ('a',) and no others, got ().")
        for value in ({"b": zeros(2, 3, width)}, {"a": zeros(2, 3, width), "b": zeros(2, 3, width)}):
            yield wrong(name, argument, value, f"the modalities ('a',) and no others, got {tuple(value)}.")
        yield mistyped(name, argument, {"a": [[[1.0]]]}, " of type Tensor, got [[[1.0]]]")
        for shape in ((2, 3, width + 1), (1, 2, 3, width), ()):
            yield wrong(name, argument, {"a": zeros(*shape)}, f", D={width}), got {shape}")
        yield wrong(name, argument, {"a": zeros(2, width + 1)}, f", D={width}), got (2, 1, {width + 1})")
        for dtype in (torch.int64, torch.bool):
            found = zeros(2, 3, width, dtype=dtype)
            yield wrong(name, argument, {"a": found}, f" in a floating-point dtype, got {dtype}")
        found = zeros(2, 3, width, dtype=torch.float64)
        yield wrong(name, argument, {"a": found}, " in torch.float32, the dtype of its weights, got torch.float64")

    def tokens(name: str) -> Iterator[Row]:
        yield from tensors(name, "x")
        for shape in ((2, 5, 7), ()):
            yield wrong(name, "x", zeros(*shape), f"got {shape}")
        yield wrong(name, "x", zeros(2, 5, 8, dtype=torch.int64), "x in a floating-point dtype, got torch.int64")
        yield wrong(
            name,
            "x",
            zeros(2, 5, 8, dtype=torch.float16),
            "x in torch.float32, the dtype of its weights, got torch.float16",
        )

    def masked(name: str, argument: str, *shapes: tuple[int, ...], full: tuple[int, ...]) -> Iterator[Row]:
        yield from tensors(name, argument, optional=True)
        for shape in shapes:
            yield wrong(name, argument, mask(*shape), str(shape))
        yield wrong(name, argument, zeros(*full), f"{argument} to be bool, got torch.float32; convert it")

    def blocks(name: str, *more: str) -> Iterator[Row]:
        yield from sizes(name, "dim", "num_heads", "head_dim", *more, optional=("ffn_dim",))
        yield from dtypes(name)

    def attending(name: str) -> Iterator[Row]:
        yield from tokens(name)
        yield wrong(name, "x", zeros(5, 8), "x of shape (B, T, D=8), got (5, 8)")
        yield from masked(name, "mask", (2, 4), (5,), (2, 5, 1), full=(2, 5))
        for value in (0, -3, 6):
            yield wrong(name, "num_queries", value, f"num_queries in [1, 5], got {value}")
        for value in (2.5, float("nan"), True, "8", [8]):
            yield mistyped(name, "num_queries", value, f"num_queries of type int, got {value!r}")

    yield from sizes("Router", "dim", "num_experts", optional=("hidden_dim",))
    yield from temperatures("Router")
    yield from best("Router", 3)
    yield from dtypes("Router")
    yield from tokens("Router.forward")
    yield from tensors("Router.forward", "present", optional=True)
    for found in (mask(4), mask(2, 4, 3), mask(1, 2, 5, 3)):
        words = f"present of a shape that broadcasts to (2, 5, 3), got {tuple(found.shape)}"
        yield wrong("Router.forward", "present", found, words)
    yield wrong("Router.forward", "present", zeros(2, 5, 3), "present to be bool, got torch.float32; convert it")

    yield from sizes("Experts", "num_experts", "in_dim", "hidden_dim", optional=("out_dim",))
    yield from dropouts("Experts")
    yield from choices("Experts", "activation")
    yield from choices("Experts", "implementation")
    yield from dtypes("Experts")
    yield from tokens("Experts.forward")
    yield from tensors("Experts.forward", "router_weights", optional=True)
    for shape in ((2, 5, 2), (5, 3), (2, 4, 3), ()):
        words = f"router_weights of shape (2, 5, E=3), got {shape}"
        yield wrong("Experts.forward", "router_weights", zeros(*shape), words)
    found = zeros(2, 5, 3, dtype=torch.int64)
    yield wrong("Experts.forward", "router_weights", found, "router_weights in a floating-point dtype, got torch.int64")

    yield wrong("Experts.forward", "num_private", 1, "num_private == 0 without group_sizes, got 1")
    yield from sizes("Experts.forward", "num_private", least=0)
    for value, words in GROUPS_OF_WRONG_TYPE:
        yield mistyped("Experts.forward", "group_sizes", value, words, x=zeros(5, 8))
    for value, words in WRONG_GROUPS:
        yield wrong("Experts.forward", "group_sizes", value, words, x=zeros(5, 8))

    disentangler = "HybridExpertDisentangler"
    yield from names(disentangler)
    yield from sizes(disentangler, "dim", "hidden_dim", optional=("router_hidden_dim",))
    yield from sizes(disentangler, "num_private_experts", "num_shared_experts", least=0)
    words = "num_private_experts + num_shared_experts >= 1, got 0"
    yield wrong(disentangler, "num_shared_experts", 0, words, num_private_experts=0)
    yield from temperatures(disentangler)
    yield from best(disentangler, 4)
    yield from dropouts(disentangler)
    yield from choices(disentangler, "activation")
    yield from choices(disentangler, "implementation")
    yield from dtypes(disentangler)
    yield from features(f"{disentangler}.forward", "features", 8)
    yield from presence(f"{disentangler}.forward", "present", 3)

    reconstructor = "MultiLevelReconstructor"
    yield from names(reconstructor)
    yield from sizes(reconstructor, "dim", "hidden_dim")
    for value in ((), "inputs", ("input", "output"), None, 3, [["input"]]):
        yield wrong(
            reconstructor,
            "levels",
            value,
            f"levels to be one or more of ('input', 'disentangled', 'joint'), got {value!r}",
        )
    yield from dtypes(reconstructor)
    yield from features(f"{reconstructor}.forward", "features", 8)
    yield from presence(f"{reconstructor}.forward", "present", 3)
    for value in (None, A, (A, A, A)):
        words = "disentangled of type Disentangled, got "
        yield mistyped(f"{reconstructor}.forward", "disentangled", value, words)
    words = "shared['a'] of shape (B=2, N=3, D=8), got (2, 4, 8)"
    yield wrong(f"{reconstructor}.forward", "disentangled", views(shared=zeros(2, 4, 8)), words)

    router = "ModalityRouter"
    yield from names(router)
    yield from sizes(router, "dim", "hidden_dim", "num_views")
    yield from temperatures(router)
    yield from dtypes(router)
    for value in ((), (A,), (A, A, A)):
        yield wrong(f"{router}.forward", "views", value, f"2 views, got {len(value)}")
    for row in features("ModalityRouter.forward", "views", 8):
        words = row.words.replace(" and no others", " of views[0]")  # the second view has the first one's modalities
        yield row._replace(value=(A, row.value), words=words)
    words = "views[1]['a'] of shape (B=2, N=3, D=8), got (2, 4, 8)"
    yield wrong(f"{router}.forward", "views", (A, {"a": zeros(2, 4, 8)}), words)
    uneven = A | {"b": zeros(2, 4, 8)}
    words = "views['b'] of shape (B=2, N=3, D=8), got (2, 4, 8)"
    yield wrong(f"{router}.forward", "views", (uneven, uneven), words, names=("a", "b"))
    yield from presence(f"{router}.forward", "present", 3)

    yield from blocks("TransformerBlock")
    yield from blocks("TransformerEncoder", "depth")
    yield from blocks("BottleneckEncoder", "depth", "num_tokens")
    for name in ("TransformerBlock", "TransformerEncoder"):
        yield from dropouts(name)
        yield from attending(f"{name}.forward")

    for name in ("BottleneckEncoder", "MissingModalityFusion"):
        for argument in ("input_dims", "max_lengths"):
            for value in (None, ["a"], 6):
                yield mistyped(name, argument, value, " of type Mapping, got ")
            for value in (0, -1):
                yield wrong(name, argument, {"a": value}, f"{argument}['a'] >= 1, got {value}")
            yield mistyped(name, argument, {"a": 2.5}, f"{argument}['a'] of type int, got 2.5")
        yield wrong(name, "input_dims", {}, "keys of input_dims to be one or more distinct names, got {}")
        yield wrong(name, "input_dims", {1: 6}, "keys of input_dims to be one or more distinct names, got {1: 6}")
        yield wrong(name, "max_lengths", {"b": 9}, "max_lengths for modalities ('a',), got ('b',)")
    for name in ("BottleneckEncoder.forward", "BottleneckEncoder.explain", "MissingModalityFusion.forward"):
        yield from features(name, "inputs", 6)
        yield wrong(name, "inputs", {"a": zeros(2, 10, 6)}, "at most 9 frames of 'a', got 10")
        yield from presence(name, "masks", 9)

    fusion = "MissingModalityFusion"
    yield from blocks(fusion, "encoder_depth", "fusion_depth", "num_tokens")
    yield from sizes(fusion, optional=("expert_dim", "reconstructor_dim", "router_dim"))
    yield from sizes(fusion, "num_private_experts", "num_shared_experts", least=0)
    yield from best(fusion, 4)
    yield from dropouts(fusion)
    for argument in ("orthogonality_penalty", "dropped_modality", "implementation"):
        yield from choices(fusion, argument)
    for value in (1, None, "yes"):
        yield mistyped(fusion, "detach_target", value, f"detach_target of type bool, got {value!r}")
    for value in ("inputs", ("input", "output"), 3):
        yield wrong(
            fusion, "levels", value, f"levels to be one or more of ('input', 'disentangled', 'joint'), got {value!r}"
        )
    fusion = f"{fusion}.forward"
    for argument in ("keep", "complete"):
        yield mistyped(fusion, argument, ["a"], f"{argument} of type Mapping, got ['a']")
        yield wrong(fusion, argument, {"b": mask(2, 9)}, "of the modalities ('a',)")
        yield mistyped(fusion, argument, {"a": [True]}, f"{argument}['a'] of type Tensor, got [True]")
    yield wrong(fusion, "keep", {"a": None}, "keep for some of the modalities ('a',), got ('a',)")
    yield wrong(fusion, "keep", {"a": mask(2, 8)}, "keep['a'] of shape (B=2, N=9), got (2, 8)")
    yield wrong(fusion, "complete", {"a": zeros(2, 8, 6)}, "complete['a'] of shape (B=2, N=9, D=6), got (2, 8, 6)")

    for value in ([], [{}], [{"a": None}]):
        yield wrong("collate", "samples", value, "at least one modality in samples, got ()")
    yield mistyped("collate", "samples", [zeros(2, 6)], "samples[0] of type Mapping, got torch.float32 (2, 6)")
    for value in (zeros(1, 2, 6), 0.5):
        yield wrong("collate", "samples", [{"a": value}], "samples[0]['a'] of shape (L, D) or (D,), got (")
    for value in (zeros(2, 5), zeros(2, 6, dtype=torch.float64)):
        words = "samples[1]['a'] of width 6 in torch.float32, like earlier samples, got"
        yield wrong("collate", "samples", [{"a": zeros(6)}, {"a": value}], words)

    for name in ("ops.expert_mixture", "ops.explain"):
        for argument in ("x", "w1", "b1", "w2", "b2", "router_weights"):
            shape, dtype = MIXTURE[argument].shape, torch.int64
            yield from tensors(name, argument, optional=argument == "router_weights")
            found = zeros(*shape, dtype=dtype)
            yield wrong(name, argument, found, f"{argument} in a floating-point dtype, got {dtype}")
            if argument != "x":
                yield wrong(
                    name,
                    argument,
                    torch.zeros(shape, device="meta"),
                    "on cpu, the device of x, got meta",
                )
                if argument in SPELLED:
                    words = f"{argument} of shape ({SPELLED[argument]}), got {(*shape[:-1], 9)}"
                    yield wrong(name, argument, zeros(*shape[:-1], 9), words)
        yield wrong(name, "x", zeros(1, 5, 8), "x of shape (T, D_in), got (1, 5, 8)")
        yield wrong(
            name, "x", zeros(5, 8, dtype=torch.float64), "x in torch.float32, the dtype of w1, got torch.float64"
        )
        yield wrong(name, "w2", zeros(3, 4), "w2 of shape (E=3, H=4, D_out), got (3, 4)")
        for value, words in WRONG_GROUPS:
            yield wrong(name, "group_sizes", value, words)
        for value, words in (*GROUPS_OF_WRONG_TYPE, (None, "group_sizes of type Collection, got None")):
            yield mistyped(name, "group_sizes", value, words)
        yield from sizes(name, "num_private", "num_shared", least=0)
        yield wrong(name, "num_private", 0, "num_private + num_shared >= 1, got 0", num_shared=0)
        yield from choices(name, "activation")
        yield from choices(name, "implementation")
        doubles = {key: value.double() for key, value in MIXTURE.items() if isinstance(value, torch.Tensor)}
        yield wrong(name, "implementation", "triton", "implementation='triton': the kernels", **doubles)
        for value in (1, None, "yes"):
            yield mistyped(name, "least_memory", value, f"least_memory of type bool, got {value!r}")
        yield wrong(name, "least_memory", True, "least_memory=False with implementation=", implementation="reference")

    def parts(name: str, argument: str, of: str) -> Iterator[Row]:
        for value in (None, [zeros(2, 3, 8)]):
            yield mistyped(name, argument, value, f"{of} of type Mapping, got ")
        for value in ({}, {"a": None}):
            yield wrong(name, argument, value, f"{of} with ")
        yield mistyped(name, argument, {"a": [1.0]}, f"{of}['a'] of type Tensor, got [1.0]")
        found = zeros(2, 3, 8, dtype=torch.int64)
        yield wrong(name, argument, {"a": found}, f"{of}['a'] in a floating-point dtype, got torch.int64")

    loss = "losses.orthogonality_loss"
    for value in (None, A, (A, A, A)):
        words = "disentangled of type Disentangled, got "
        yield mistyped(loss, "disentangled", value, words)
    for view in ("private", "shared"):
        for row in parts(loss, "disentangled", view):
            yield row._replace(value=views()._replace(**{view: row.value}))
    for view in ("private", "shared"):
        both = A | {"b": zeros(2, 3, 8)}
        words = "shared with the modalities "
        yield wrong(loss, "disentangled", views()._replace(**{view: both}), words)
    words = "shared['a'] of shape (B=2, N=3, D=8), got (2, 1, 8)"
    yield wrong(loss, "disentangled", views(shared=zeros(2, 1, 8)), words)
    yield from presence(loss, "present", 3)
    yield from choices(loss, "penalty")
    loss = "losses.reconstruction_loss"
    for value in (None, A, (A, A, A, A)):
        words = "reconstruction of type Reconstruction, got "
        yield mistyped(loss, "reconstruction", value, words)
        words = "target_disentangled of type Disentangled, got "
        yield mistyped(loss, "target_disentangled", value, words)
    words = "target_disentangled of type Mapping, got None"
    yield mistyped(loss, "target_disentangled", views()._replace(private=None), words)
    yield wrong(loss, "reconstruction", REBUILT._replace(input={}), "reconstruction with at least one modality, got ()")
    yield from parts(loss, "target_features", "target_features")
    for value, words in (
        ({"b": zeros(2, 3, 8)}, "target_features with the modalities ('a',) of "),
        ({"a": zeros(1, 3, 8)}, "target_features['a'] of shape (B=2, N=3, D=8), got (1, 3, 8)"),
    ):
        yield wrong(loss, "target_features", value, words)
    yield from presence(loss, "present", 3)
    for value in (1, None, "yes"):
        yield mistyped(loss, "detach_target", value, f"detach_target of type bool, got {value!r}")

    loss = "losses.load_balance"
    yield from parts(loss, "router_weights", "router_weights")
    found = {"a": zeros(2, 3)}
    yield wrong(loss, "router_weights", found, "router_weights['a'] of shape (B, N, K), got (2, 3)")
    yield from presence(loss, "present", 3)

    def dropping(name: str, of: str) -> Iterator[Row]:
        if of == "mask":
            yield from tensors(name, "mask")
            for found in (mask(4), mask(2, 4, 1)):
                yield wrong(name, "mask", found, f"mask of shape (B, T), got {tuple(found.shape)}")
            yield wrong(name, "mask", zeros(2, 4), "mask to be bool, got torch.float32; convert it")
        else:
            for value in (None, mask(2, 4), ["a"]):
                yield mistyped(name, "masks", value, "masks of type Mapping, got ")
            yield wrong(name, "masks", {}, "masks of at least one modality, got {}")
            yield mistyped(name, "masks", {"a": [[True]]}, "masks['a'] of type Tensor, got [[True]]")
            yield wrong(name, "masks", {"a": zeros(2, 4)}, "masks['a'] to be bool, got torch.float32")
            yield wrong(name, "masks", {"a": mask(2, 4), "b": mask(3, 4)}, "masks['b'] of shape (B=2, T), got (3, 4)")
        if name == "missing.keep_modalities":
            return
        for value in (1.5, -0.1, 30, float("nan"), scores(0.5, 2.0)):
            yield wrong(name, "rate", value, "rate in [0, 1], got ")
        yield wrong(name, "rate", scores(0.1, 0.2, 0.3), "(B=2,), got (3,)")
        for value in (None, "0.5", True, [[0.5], 0.5]):
            yield mistyped(name, "rate", value, f"rate of type float or Tensor, got {value!r}")
        for found in (mask(2), zeros(2, dtype=torch.complex64)):
            yield wrong(name, "rate", found, f"rate to hold numbers, got {found.dtype}; cast it to float")
        for value in (0, "cpu", True):
            yield mistyped(name, "generator", value, f"generator of type Generator or NoneType, got {value!r}")

    for name in ("drop_frames", "drop_block", "drop_bursts"):
        yield from dropping(f"missing.{name}", "mask")
    for name in ("drop", "drop_modalities", "drop_together", "unequal_rates", "keep_modalities"):
        yield from dropping(f"missing.{name}", "masks")
    for value in (0, -1, float("nan"), float("inf")):
        yield wrong("missing.drop_bursts", "mean_length", value, f"a finite mean_length >= 1, got {float(value)}")
    for value in (None, "5", True):
        yield mistyped(
            "missing.drop_bursts",
            "mean_length",
            value,
            f"mean_length of type float or Tensor, got {value!r}",
        )
    yield wrong("missing.drop_bursts", "mean_length", scores(2, 2, 2), "(B=2,), got (3,)")
    yield wrong(
        "missing.drop_bursts",
        "rate",
        0.75,
        "rate <= mean_length / (mean_length + 1) or rate = 1, got [(0.75, 2.0), (0.75, 2.0)]",
        mean_length=2,
    )
    for value in (0.3, "a", None):
        yield mistyped("missing.drop_modalities", "keep_one", value, f"keep_one of type bool, got {value!r}")
    for value in ("a", ["c"], [["a"]], [None]):
        words = f"available to be a collection of names from ('a', 'b'), got {value!r}"
        yield wrong("missing.keep_modalities", "available", value, words)
    for value in (None, 3):
        yield mistyped("missing.keep_modalities", "available", value, f"available of type Collection, got {value!r}")
    for name in ("drop", "parse_pattern"):
        for value, words in (
            ("holes", "parse_pattern expected pattern to be distinct names from"),
            ("", "joined by plus signs, got ''"),
            ("frames+", "joined by plus signs, got 'frames+'"),
            ("block+block", "to be distinct names from"),
        ):
            yield wrong(f"missing.{name}", "pattern", value, words)
        expected = "str or Callable" if name == "drop" else "str"
        for value in (None, 3, ("frames",)):
            yield mistyped(f"missing.{name}", "pattern", value, f"pattern of type {expected}, got {value!r}")

    def restores(mask: torch.Tensor, rate: torch.Tensor, *, generator: object) -> torch.Tensor:
        return torch.ones_like(mask)

    def floats(mask: torch.Tensor, rate: torch.Tensor, *, generator: object) -> torch.Tensor:
        return mask.float()

    def narrows(mask: torch.Tensor, rate: torch.Tensor, *, generator: object) -> torch.Tensor:
        return mask[:, 1:]

    def nothing(mask: torch.Tensor, rate: torch.Tensor, *, generator: object) -> None:
        return None

    for value, words in (
        (floats, "pattern 'floats' for 'a' to be bool, got torch.float32"),
        (narrows, "pattern 'narrows' for 'a' of shape (B=2, T=4), got (2, 3)"),
        (restores, "pattern 'restores' to keep no element outside the mask of 'a', got 8"),
    ):
        yield wrong("missing.drop", "pattern", value, words, masks={"a": ~mask(2, 4)})
    yield mistyped("missing.drop", "pattern", nothing, "pattern 'nothing' for 'a' of type Tensor, got None")
    for found in ({}, {"a": 0.5}, {"a": 0.5, "b": 0.5, "c": 0.5}):
        words = f"a rate for each of ('a', 'b'), got {tuple(found)}"
        yield wrong("missing.drop", "rate", found, words)
    yield wrong("missing.drop", "rate", {"a": 0.5, "b": 30}, "rate['b'] in [0, 1], got 30")
    yield mistyped("missing.drop", "rate", {"a": 0.5, "b": None}, "rate['b'] of type float or Tensor, got None")
    words = "one rate for pattern 'together', which drops across modalities, got {'a': 0.5, 'b': 0.5}"
    yield wrong("missing.drop", "rate", {"a": 0.5, "b": 0.5}, words, pattern="together")
    yield wrong("missing.drop", "generator", {}, "a generator for each of ('a', 'b'), got ()")
    yield mistyped("missing.drop", "generator", {"a": 0, "b": 0}, "generator['a'] of type Generator or NoneType, got 0")
    for value in (0, "cpu", {}):
        words = f"shared_generator of type Generator or NoneType, got {value!r}"
        yield mistyped("missing.drop", "shared_generator", value, words)
    own = {name: torch.Generator() for name in MASKS}
    words = "shared_generator for draws across modalities, got None"
    for pattern in ("modalities", "frames+block"):
        yield wrong("missing.drop", "shared_generator", None, words, generator=own, pattern=pattern)

    for name in ("drop", "drop_modalities", "unequal_rates"):
        for value in ((), ("a",), ("a", "c"), ("a", "b", "b"), ("a", "b", "c"), "ab", 3):
            words = f"order to contain each of the modalities ('a', 'b') once, got {value!r}"
            yield wrong(f"missing.{name}", "order", value, words)

    for value in ("", "a+b", "two words", "end "):
        words = "name to be a new name without spaces or plus signs"
        yield wrong("missing.register_pattern", "name", value, words)
    yield wrong("missing.register_pattern", "name", "block", "not one of ")
    for value in (None, 3):
        yield mistyped("missing.register_pattern", "name", value, f"name of type str, got {value!r}")
    for value in (None, "frames"):
        yield mistyped("missing.register_pattern", "function", value, f"function of type Callable, got {value!r}")
    for value in (1, None):
        yield mistyped("missing.register_pattern", "across", value, f"across of type bool, got {value!r}")

    yield from tensors("missing.erase", "values")
    for found, words in (
        (zeros(2, 4), "values of shape (B, T, D), got (2, 4)"),
        (zeros(2, 4, 1, dtype=torch.long), "values of shape (B, T), got (2, 4, 1)"),
        (mask(2, 4), "values to hold integers, got torch.bool"),
        (zeros(2, 4, dtype=torch.complex64), "values to hold integers, got torch.complex64"),
    ):
        yield wrong("missing.erase", "values", found, words)
    yield from tensors("missing.erase", "keep")
    yield wrong("missing.erase", "keep", zeros(2, 4), "keep to be bool, got torch.float32")
    yield wrong("missing.erase", "keep", mask(2, 3), "keep of shape (B=2, T=4), got (2, 3)")
    yield wrong("missing.erase", "unk_token_id", None, "unk_token_id for token ids, got None; pass the tokenizer")
    for value in (1.5, "[UNK]", True):
        yield mistyped("missing.erase", "unk_token_id", value, f"unk_token_id of type int, got {value!r}")
    small = zeros(2, 4, dtype=torch.uint8)
    yield wrong("missing.erase", "unk_token_id", 300, "unk_token_id in [0, 255], got 300", values=small)
    for value in (None, 101):
        words = f"special_token_ids of type Collection, got {value!r}"
        yield mistyped("missing.erase", "special_token_ids", value, words)
    for value in (("[CLS]",), (1.5,), "[CLS]"):
        words = f"special_token_ids of type int, got {value[0]!r}"
        yield mistyped("missing.erase", "special_token_ids", value, words)

    for name in ("metrics.sentiment_metrics", "metrics.SentimentMetrics.update"):
        for argument in ("preds", "target"):
            yield from tensors(name, argument)
            yield wrong(name, argument, zeros(2, 1), f"{argument} of shape (N")
            yield wrong(name, argument, zeros(3), "target of shape (N=")
            found = zeros(2, dtype=torch.long)
            yield wrong(name, argument, found, f"{argument} in a floating-point dtype, got torch.int64")
            for value in (float("nan"), float("inf")):
                words = f"finite {argument} in every row, got {{1: {value}}}"
                yield wrong(name, argument, scores(0.0, value), words)
    yield wrong("metrics.sentiment_metrics", "preds", zeros(0), "of at least one row, got 0", target=zeros(0))
    for name in ("metrics.ExpertLoad", "metrics.RoutingEntropy"):
        for value in (1, 0, -1):
            yield wrong(name, "num_experts", value, f"num_experts >= 2, got {value}")
        for value in (2.5, None, "3", True):
            yield mistyped(name, "num_experts", value, f"num_experts of type int, got {value!r}")
        name += ".update"
        yield from tensors(name, "router_weights")
        for found in (zeros(2, 5, 2), zeros()):
            yield wrong(name, "router_weights", found, f"num_experts=3), got {tuple(found.shape)}")
        found = zeros(2, 5, 3, dtype=torch.long)
        yield wrong(name, "router_weights", found, "router_weights in a floating-point dtype, got torch.int64")
        yield from tensors(name, "mask", optional=True)
        for found in (mask(2, 4), mask(5)):
            yield wrong(name, "mask", found, f"mask of shape (2, 5), got {tuple(found.shape)}")
        yield wrong(name, "mask", zeros(2, 5), "mask to be bool, got torch.float32")


ROWS = list(make_rows())


def public() -> dict[str, list[str]]:
    """Every public callable, a class and its methods apart, with the names of its arguments."""
    found = {}
    for module in MODULES:
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        for name in getattr(module, "__all__", [name for name in own if not name.startswith("_")]):
            value = getattr(module, name)
            if isinstance(value, ModuleType) or not callable(value):
                continue
            path = f"{module.__name__}.{name}"
            found[path] = [] if path in EXEMPT else list(inspect.signature(value).parameters)
            methods = vars(value) if inspect.isclass(value) and path not in EXEMPT else {}
            for method, function in methods.items():
                if inspect.isfunction(function) and not method.startswith("_") and method != "extra_repr":
                    found[f"{path}.{method}"] = list(inspect.signature(function).parameters)[1:]
    return found


def raises() -> dict[tuple[str, int], tuple[str, str]]:
    """Every raise of the library outside of the kernels, and every call of a check: file and line -> file, function."""
    found = {}
    for path in sorted(HOME.rglob("*.py")):
        file = path.relative_to(HOME).as_posix()
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            checks = name == "check" or (name.startswith("check_") and file != CHECKS)
            if (isinstance(node, ast.Raise) or checks) and "/kernels/" not in file:
                around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
                found[file, node.lineno] = file, max(around, key=lambda f: f.lineno).name if around else ""
    return found


def origins(error: BaseException) -> tuple[tuple[str, int], ...]:
    """The library's part of an error's traceback, files and lines: the calls of checks, and the raise."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(Path(frame.filename).resolve(), frame.lineno or 0) for frame in frames]
    inside = [(path.relative_to(HOME).as_posix(), line) for path, line in places if path.is_relative_to(HOME)]
    return tuple(inside)


def caught(row: Row) -> Exception | None:
    try:
        row.call()
    except Exception as error:
        return error
    return None


def main() -> None:
    reached = {place for row in ROWS if (error := caught(row)) for place in origins(error)}
    every = raises()
    elsewhere = [place for place, key in every.items() if key in ELSEWHERE]
    print("By callable: an argument, the type of a wrong value, and the error. Written by scripts/errors.py.")
    shown = set()
    for name in dict.fromkeys(row.name for row in ROWS):
        print(f"\n{name}")
        for row in ROWS:
            error = caught(row) if row.name == name else None
            key = name, row.argument, origins(error) if error else None
            if error and key not in shown:  # the first of those that one check refuses
                shown.add(key)
                text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
                print(f"    {row.argument} ({type(row.value).__name__}): {text}")
    print(
        f"\n{len({row.name for row in ROWS})} callables, {len({row[:2] for row in ROWS})} arguments, {len(ROWS)} bad "
        f"calls; {len(reached & set(every))} of {len(every)} raises and checks reached here, {len(elsewhere)} by tests "
        "of their own."
    )


if __name__ == "__main__":
    main()
