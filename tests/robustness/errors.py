"""Wrong calls of every public callable, and what each answers: ``python tests/robustness/errors.py`` prints the list.

``docs/errors.md`` is that list: ``python tests/robustness/errors.py > docs/errors.md`` after a message has changed.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

import modx
from modx import losses, metrics, missing, ops

NAMES = ("text", "audio")


def features(**changes: Any) -> dict[str, torch.Tensor]:
    return {"text": torch.zeros(2, 3, 4), "audio": torch.zeros(2, 5, 4)} | changes


def masks(**changes: Any) -> dict[str, torch.Tensor]:
    return {"text": torch.ones(2, 3, dtype=torch.bool), "audio": torch.ones(2, 5, dtype=torch.bool)} | changes


def mixture(function: Callable[..., Any], **changes: Any) -> Any:
    call: dict[str, Any] = {
        "x": torch.zeros(5, 4),
        "router_weights": torch.ones(5, 2),
        "w1": torch.zeros(3, 6, 4),
        "b1": torch.zeros(3, 6),
        "w2": torch.zeros(3, 6, 4),
        "b2": torch.zeros(3, 4),
        "group_sizes": (3, 2),
        "num_private": 1,
        "num_shared": 1,
    }
    return function(**call | changes)


def encoder(**changes: Any) -> modx.BottleneckEncoder:
    call = {"input_dims": {"text": 4, "audio": 4}, "dim": 8, "num_tokens": 2, "max_lengths": {"text": 5, "audio": 5}}
    return modx.BottleneckEncoder(**call | changes)


def disentangler(**changes: Any) -> modx.HybridExpertDisentangler:
    return modx.HybridExpertDisentangler(**{"modalities": NAMES, "dim": 4, "hidden_dim": 5} | changes)


def reconstructor(**changes: Any) -> modx.MultiLevelReconstructor:
    return modx.MultiLevelReconstructor(**{"modalities": NAMES, "dim": 4, "hidden_dim": 5} | changes)


def fusion(**changes: Any) -> modx.ModalityRouter:
    return modx.ModalityRouter(**{"num_inputs": 2, "dim": 4, "hidden_dim": 5} | changes)


def block(**changes: Any) -> modx.TransformerBlock:
    return modx.TransformerBlock(**{"dim": 4, "num_heads": 2, "head_dim": 2} | changes)


def transformer(**changes: Any) -> modx.TransformerEncoder:
    return modx.TransformerEncoder(**{"dim": 4, "depth": 1, "num_heads": 2, "head_dim": 2} | changes)


IMPERATIVES = (
    "add|ask|bring|build|cast|check|choose|compare|convert|copy|correct|count|cut|delete|drop|embed|evaluate|find|fit|flatten|"
    "get|give|join|leave|list|lower|make|move|name|pad|pass|put|raise|read|rebuild|repair|reshape|save|shorten|stack|train|use|write"
)


def has_remedy(message: str) -> bool:
    """Whether a message ends in a clause that tells what to do."""
    return re.search(rf"; ([^;]*, (so |or )?)?({IMPERATIVES})\b[^;]*\.$", message) is not None


class Row(NamedTuple):
    """A call that must fail: whose, by which argument, and how."""

    owner: str
    argument: str
    call: Callable[[], Any]


LONG = torch.zeros(2, 3, 4, dtype=torch.long)
DOUBLE = torch.zeros(2, 3, 4, dtype=torch.float64)
HALF_MASK = torch.ones(2, 3)
SHORT_MASK = torch.ones(2, 2, dtype=torch.bool)
NAN = torch.tensor([0.0, float("nan")])

ROWS = [
    *(
        Row(name, argument, lambda function=function, change=change: mixture(function, **change))
        for name, function in (("expert_mixture", ops.expert_mixture), ("explain", ops.explain))
        for argument, change in (
            ("x", {"x": torch.zeros(2, 3, 4)}),
            ("x", {"x": torch.zeros(5, 7)}),
            ("x", {"x": torch.zeros(5, 4, dtype=torch.long)}),
            ("x", {"x": torch.zeros(5, 4, dtype=torch.float64)}),
            ("router_weights", {"router_weights": torch.ones(5, 3)}),
            ("router_weights", {"router_weights": torch.ones(5, 2, dtype=torch.long)}),
            ("w1", {"w1": torch.zeros(6, 4)}),
            ("w1", {"w1": torch.zeros(2, 6, 4)}),
            ("w1", {"w1": torch.zeros(3, 6, 4, dtype=torch.bfloat16)}),
            ("b1", {"b1": torch.zeros(3, 7)}),
            ("w2", {"w2": torch.zeros(3, 4)}),
            ("w2", {"w2": torch.zeros(3, 7, 4)}),
            ("b2", {"b2": torch.zeros(4)}),
            ("group_sizes", {"group_sizes": (3, 3)}),
            ("group_sizes", {"group_sizes": (6, -1)}),
            ("num_private", {"num_private": -1}),
            ("num_shared", {"num_private": 0, "num_shared": 0}),
            ("activation", {"activation": "tanh"}),
            ("implementation", {"implementation": "cuda"}),
            ("implementation", {"implementation": "triton", "x": torch.zeros(5, 4, device="meta")}),
            ("least_memory", {"implementation": "reference", "least_memory": True}),
        )
    ),
    Row("Router", "dim", lambda: modx.Router(0, 2)),
    Row("Router", "num_experts", lambda: modx.Router(4, 0)),
    Row("Router", "num_experts", lambda: modx.Router(4, 2.0)),
    Row("Router", "hidden_dim", lambda: modx.Router(4, 2, hidden_dim=0)),
    Row("Router", "temperature", lambda: modx.Router(4, 2, temperature=0.0)),
    Row("Router", "temperature", lambda: modx.Router(4, 2, temperature=float("nan"))),
    Row("Router", "x", lambda: modx.Router(4, 2)(torch.zeros(3, 5))),
    Row("Router", "x", lambda: modx.Router(4, 2)(LONG)),
    Row("Router", "x", lambda: modx.Router(4, 2)(DOUBLE)),
    Row("Experts", "num_experts", lambda: modx.Experts(0, 4, 5)),
    Row("Experts", "in_dim", lambda: modx.Experts(1, -4, 5)),
    Row("Experts", "hidden_dim", lambda: modx.Experts(1, 4, True)),
    Row("Experts", "out_dim", lambda: modx.Experts(1, 4, 5, "6")),
    Row("Experts", "activation", lambda: modx.Experts(1, 4, 5, activation="Gelu")),
    Row("Experts", "x", lambda: modx.Experts(1, 4, 5)(torch.zeros(3, 5))),
    Row("Experts", "router_weights", lambda: modx.Experts(2, 4, 5)(torch.zeros(3, 4), torch.ones(3, 3))),
    Row("HybridExpertDisentangler", "modalities", lambda: disentangler(modalities=())),
    Row("HybridExpertDisentangler", "modalities", lambda: disentangler(modalities="text")),
    Row("HybridExpertDisentangler", "modalities", lambda: disentangler(modalities=("text", "text"))),
    Row("HybridExpertDisentangler", "dim", lambda: disentangler(dim=0)),
    Row("HybridExpertDisentangler", "hidden_dim", lambda: disentangler(hidden_dim=0)),
    Row("HybridExpertDisentangler", "num_private_experts", lambda: disentangler(num_private_experts=-1)),
    Row(
        "HybridExpertDisentangler",
        "num_shared_experts",
        lambda: disentangler(num_private_experts=0, num_shared_experts=0),
    ),
    Row("HybridExpertDisentangler", "temperature", lambda: disentangler(temperature=-1.0)),
    Row("HybridExpertDisentangler", "activation", lambda: disentangler(activation="mish")),
    Row("HybridExpertDisentangler", "implementation", lambda: disentangler(implementation="Triton")),
    Row("HybridExpertDisentangler", "features", lambda: disentangler()({"text": torch.zeros(2, 3, 4)})),
    Row("HybridExpertDisentangler", "features", lambda: disentangler()(features(text=torch.zeros(2, 4)))),
    Row("HybridExpertDisentangler", "features", lambda: disentangler()(features(text=torch.zeros(3, 3, 4)))),
    Row("HybridExpertDisentangler", "features", lambda: disentangler()(features(text=LONG))),
    Row("HybridExpertDisentangler", "features", lambda: disentangler()(features(text=DOUBLE))),
    Row("MultiLevelReconstructor", "modalities", lambda: reconstructor(modalities=[])),
    Row("MultiLevelReconstructor", "dim", lambda: reconstructor(dim=0)),
    Row("MultiLevelReconstructor", "levels", lambda: reconstructor(levels=())),
    Row("MultiLevelReconstructor", "levels", lambda: reconstructor(levels=("input", "deep"))),
    Row("MultiLevelReconstructor", "features", lambda: reconstructor()({}, disentangler()(features()))),
    Row(
        "MultiLevelReconstructor",
        "disentangled",
        lambda: reconstructor()(features(), disentangler(modalities=["text"])({"text": torch.zeros(2, 3, 4)})),
    ),
    Row("ModalityRouter", "num_inputs", lambda: fusion(num_inputs=0)),
    Row("ModalityRouter", "dim", lambda: fusion(dim=1.5)),
    Row("ModalityRouter", "hidden_dim", lambda: fusion(hidden_dim=0)),
    Row("ModalityRouter", "temperature", lambda: fusion(temperature=float("inf"))),
    Row("ModalityRouter", "features", lambda: fusion()([torch.zeros(2, 3, 4)])),
    Row("ModalityRouter", "features", lambda: fusion()([torch.zeros(2, 3, 4), torch.zeros(2, 2, 4)])),
    Row("ModalityRouter", "features", lambda: fusion()([torch.zeros(3, 4)] * 2)),
    Row("ModalityRouter", "features", lambda: fusion()([LONG] * 2)),
    Row("ModalityRouter", "features", lambda: fusion()([DOUBLE] * 2)),
    Row("ModalityRouter", "present", lambda: fusion()([torch.zeros(2, 3, 4)] * 2, torch.ones(2, 2))),
    Row("ModalityRouter", "present", lambda: fusion()([torch.zeros(2, 3, 4)] * 2, torch.ones(2, 3, dtype=torch.bool))),
    Row("TransformerBlock", "dim", lambda: block(dim=0)),
    Row("TransformerBlock", "num_heads", lambda: block(num_heads=0)),
    Row("TransformerBlock", "head_dim", lambda: block(head_dim=-1)),
    Row("TransformerBlock", "ffn_dim", lambda: block(ffn_dim=0)),
    Row("TransformerBlock", "dropout", lambda: block(dropout=1.5)),
    Row("TransformerBlock", "x", lambda: block()(torch.zeros(3, 4))),
    Row("TransformerBlock", "x", lambda: block()(torch.zeros(2, 3, 5))),
    Row("TransformerBlock", "x", lambda: block()(DOUBLE)),
    Row("TransformerBlock", "mask", lambda: block()(torch.zeros(2, 3, 4), HALF_MASK)),
    Row("TransformerBlock", "mask", lambda: block()(torch.zeros(2, 3, 4), SHORT_MASK)),
    Row("TransformerBlock", "num_queries", lambda: block()(torch.zeros(2, 3, 4), num_queries=0)),
    Row("TransformerBlock", "num_queries", lambda: block()(torch.zeros(2, 3, 4), num_queries=4)),
    Row("TransformerEncoder", "depth", lambda: transformer(depth=0)),
    Row("TransformerEncoder", "num_heads", lambda: transformer(num_heads=0)),
    Row("TransformerEncoder", "x", lambda: transformer()(torch.zeros(2, 3, 5))),
    Row("TransformerEncoder", "mask", lambda: transformer()(torch.zeros(2, 3, 4), SHORT_MASK)),
    Row("TransformerEncoder", "num_queries", lambda: transformer()(torch.zeros(2, 3, 4), num_queries=4)),
    Row("BottleneckEncoder", "input_dims", lambda: encoder(input_dims={}, max_lengths={})),
    Row("BottleneckEncoder", "input_dims", lambda: encoder(input_dims={"text": 0, "audio": 4})),
    Row("BottleneckEncoder", "dim", lambda: encoder(dim=0)),
    Row("BottleneckEncoder", "num_tokens", lambda: encoder(num_tokens=0)),
    Row("BottleneckEncoder", "depth", lambda: encoder(depth=0)),
    Row("BottleneckEncoder", "max_lengths", lambda: encoder(max_lengths={"text": 5})),
    Row("BottleneckEncoder", "max_lengths", lambda: encoder(max_lengths={"text": 0, "audio": 5})),
    Row("BottleneckEncoder", "inputs", lambda: encoder()({"text": torch.zeros(2, 3, 4)})),
    Row("BottleneckEncoder", "inputs", lambda: encoder()(features(text=torch.zeros(2, 6, 4)))),
    Row("BottleneckEncoder", "inputs", lambda: encoder()(features(text=torch.zeros(2, 3, 5)))),
    Row("BottleneckEncoder", "inputs", lambda: encoder()(features(text=LONG))),
    Row("BottleneckEncoder", "inputs", lambda: encoder()(features(text=DOUBLE))),
    Row("BottleneckEncoder", "masks", lambda: encoder()(features(), {"text": SHORT_MASK})),
    Row("BottleneckEncoder", "masks", lambda: encoder()(features(), masks(text=SHORT_MASK))),
    Row("BottleneckEncoder", "masks", lambda: encoder()(features(), masks(text=HALF_MASK))),
    Row("orthogonality_loss", "private", lambda: losses.orthogonality_loss({}, {})),
    Row("orthogonality_loss", "shared", lambda: losses.orthogonality_loss(features(), {"text": LONG})),
    Row(
        "orthogonality_loss",
        "shared",
        lambda: losses.orthogonality_loss(features(), features(text=torch.zeros(2, 2, 4))),
    ),
    Row("orthogonality_loss", "penalty", lambda: losses.orthogonality_loss(features(), features(), penalty="l2")),
    Row("reconstruction_loss", "target_features", lambda: rebuild({"text": torch.zeros(2, 3, 4)})),
    Row("reconstruction_loss", "target_features", lambda: rebuild(features(text=torch.zeros(2, 2, 4)))),
    *(
        Row(function.__name__, argument, lambda function=function, call=call: function(*call))
        for function in (missing.drop_frames, missing.drop_block)
        for argument, call in (
            ("mask", (HALF_MASK, 0.5)),
            ("mask", (SHORT_MASK[0], 0.5)),
            ("rate", (SHORT_MASK, 1.5)),
            ("rate", (SHORT_MASK, float("nan"))),
            ("rate", (SHORT_MASK, torch.zeros(3))),
        )
    ),
    Row("drop_bursts", "mask", lambda: missing.drop_bursts(HALF_MASK, 0.5, mean_length=3)),
    Row("drop_bursts", "rate", lambda: missing.drop_bursts(SHORT_MASK, -0.1, mean_length=3)),
    Row("drop_bursts", "rate", lambda: missing.drop_bursts(SHORT_MASK, 0.9, mean_length=2)),
    Row("drop_bursts", "mean_length", lambda: missing.drop_bursts(SHORT_MASK, 0.5, mean_length=0.5)),
    Row("drop_bursts", "mean_length", lambda: missing.drop_bursts(SHORT_MASK, 0.5, mean_length=torch.ones(3))),
    *(
        Row(function.__name__, argument, lambda function=function, call=call: function(*call))
        for function in (missing.drop, missing.drop_modalities, missing.drop_together, missing.unequal_rates)
        for argument, call in (
            ("masks", ({}, 0.5)),
            ("masks", (masks(text=HALF_MASK), 0.5)),
            ("masks", (masks(text=torch.ones(3, 3, dtype=torch.bool)), 0.5)),
            ("rate", (masks(), 50)),
            ("rate", (masks(), torch.zeros(2, 1))),
        )
    ),
    Row("drop", "pattern", lambda: missing.drop(masks(), 0.5, "frame")),
    Row("drop", "generator", lambda: missing.drop(masks(), 0.5, generator={"text": torch.Generator()})),
    Row("drop", "generator", lambda: missing.drop(masks(), 0.5, "modalities", generator={"text": torch.Generator()})),
    Row("parse_pattern", "pattern", lambda: missing.parse_pattern("")),
    Row("parse_pattern", "pattern", lambda: missing.parse_pattern("frames+holes")),
    Row("parse_pattern", "pattern", lambda: missing.parse_pattern("frames+frames")),
    Row("keep_modalities", "masks", lambda: missing.keep_modalities({}, ())),
    Row("keep_modalities", "available", lambda: missing.keep_modalities(masks(), "text")),
    Row("keep_modalities", "available", lambda: missing.keep_modalities(masks(), ("video",))),
    Row("erase", "values", lambda: missing.erase(torch.zeros(2, 3), SHORT_MASK)),
    Row("erase", "keep", lambda: missing.erase(torch.zeros(2, 3, 4), SHORT_MASK)),
    Row("erase", "keep", lambda: missing.erase(torch.zeros(2, 3, 4), HALF_MASK)),
    Row("erase", "unk_token_id", lambda: missing.erase(torch.zeros(2, 2, dtype=torch.long), SHORT_MASK)),
    Row("sentiment_metrics", "preds", lambda: metrics.sentiment_metrics(torch.zeros(2, 1), torch.zeros(2))),
    Row("sentiment_metrics", "preds", lambda: metrics.sentiment_metrics(NAN, torch.zeros(2))),
    Row("sentiment_metrics", "preds", lambda: metrics.sentiment_metrics(torch.zeros(0), torch.zeros(0))),
    Row("sentiment_metrics", "target", lambda: metrics.sentiment_metrics(torch.zeros(2), torch.zeros(2).long())),
    Row("sentiment_metrics", "target", lambda: metrics.sentiment_metrics(torch.zeros(2), NAN)),
    Row("SentimentMetrics", "preds", lambda: metrics.SentimentMetrics().update(NAN, torch.zeros(2))),
    Row("SentimentMetrics", "target", lambda: metrics.SentimentMetrics().update(torch.zeros(2), torch.zeros(3))),
    *(
        Row(metric.__name__, argument, lambda metric=metric, call=call: metric(2).update(*call))
        for metric in (metrics.ExpertLoad, metrics.RoutingEntropy)
        for argument, call in (
            ("router_weights", (torch.ones(3, 4),)),
            ("router_weights", (torch.ones(3, 2, dtype=torch.long),)),
            ("mask", (torch.ones(3, 2), torch.ones(3))),
            ("mask", (torch.ones(3, 2), torch.ones(2, dtype=torch.bool))),
        )
    ),
    Row("ExpertLoad", "num_experts", lambda: metrics.ExpertLoad(1)),
    Row("RoutingEntropy", "num_experts", lambda: metrics.RoutingEntropy(0)),
]


def rebuild(target: dict[str, torch.Tensor]) -> losses.ReconstructionLoss:
    views = disentangler()(features())
    return losses.reconstruction_loss(reconstructor()(features(), views), target, views)


def fail(row: Row) -> Exception:
    """The error of a call.

    Raises:
        AssertionError: there is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics, of compute before update
            row.call()
    except Exception as error:
        return error
    raise AssertionError(f"{row.owner} took a wrong {row.argument}")


def page() -> str:
    """All of them as a page."""
    lines = [
        "# What goes wrong, and what it says",
        f"Made by `python tests/robustness/errors.py > docs/errors.md`: {len(ROWS)} wrong calls of "
        f"{len({row.owner for row in ROWS})} public callables, each with the error that it raises. A test holds this "
        "page to the code, and every `raise` of the library to a row of it.",
    ]
    owner = None
    for row in sorted(ROWS, key=lambda row: row.owner.lower()):
        if row.owner != owner:
            owner = row.owner
            lines += [f"## {owner}", "| argument | error |\n| --- | --- |"]
        error = fail(row)
        message = str(error).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
        lines[-1] += f"\n| `{row.argument}` | {type(error).__name__}: {message} |"
    return "\n\n".join(lines)


if __name__ == "__main__":
    print(page())
