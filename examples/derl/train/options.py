"""What the command can be told."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from derl.model.registry import MODELS
from derl.train.recipes import LAST, PAPER_EPOCHS, RECIPES, SELECTION_METRICS, SHORT_EPOCHS
from modx.missing import PATTERNS, parse_pattern
from modx.reconstruct import LEVELS

LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "learning_rate": 0,
    "text_learning_rate": 0,
    "warmup": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "orthogonality_weight": 0,
    "reconstruction_weight": 0,
    "corrupted_share": 0,
    "train_rate": 0,
    "average_decay": 0,
    "consistency_weight": 0,
    "complete_weight": 0,
    "seed": 0,
    "num_private_experts": 0,
    "num_shared_experts": 0,
    "num_workers": 0,
}


GROUPS = {  # the first option of each -> its title
    "data": "data",
    "preset": "model",
    "recipe": "training",
    "train_pattern": "missing input",
    "standardize": "against missing input",
    "select_rates": "choice of a checkpoint",
    "seed": "run",
}


def _option(default: Any, text: str, choices: Collection[str] | None = None) -> Any:
    return field(default=default, metadata={"help": text} | ({"choices": choices} if choices else {}))


@dataclass(frozen=True)
class Options:
    """Every option of ``examples/derl_mosi.py``; batch size, schedule and learning rate are the paper's (Li et al.)."""

    data: str | None = _option(None, "MMSA-layout pickle, a safetensors file or shards (default: synthetic data)")
    text_features: bool = _option(
        False, "read the pickle's key text, features that others computed, in place of the words in raw_text"
    )
    text_encoder: str | None = _option(
        None, "Hugging Face text encoder, a folder or a name (default with --data: bert-base-uncased)"
    )
    preset: str = _option(
        "mosi",
        "sizes of the paper's model on that data set; smoke: of a quick check, and little synthetic data",
        ["mosi", "mosei", "smoke"],
    )
    model: str = _option("derl", "what to train; plain: a linear layer on means", MODELS)
    disentangler: str = _option(
        "experts", "HED, or one private MLP a modality and one shared by all, without a router", ["experts", "mlp"]
    )
    num_private_experts: int | None = _option(None, "experts of each modality (default: by --preset)")
    num_shared_experts: int | None = _option(None, "experts shared by all modalities (default: by --preset)")
    reconstruction_levels: list[str] = field(
        default_factory=lambda: list(LEVELS),
        metadata={"help": "what MLCR rebuilds, out of input, disentangled and joint; none: no MLCR"},
    )
    fusion: str = _option("router", "MRF, or all views weigh the same", ["router", "mean"])
    recipe: str = _option(
        "paper", "how to train: paper, or robust; sets the default of what says so below", list(RECIPES)
    )
    epochs: int | None = _option(
        None,
        f"passes over the training split (default: {PAPER_EPOCHS} for --recipe paper with --data, else {SHORT_EPOCHS})",
    )
    batch_size: int = _option(64, "samples a step")
    learning_rate: float | None = _option(
        None, "peak, of all but the text encoder (default: 1e-4, or 2e-4 on the synthetic data)"
    )
    text_learning_rate: float | None = _option(
        None, "peak, of the text encoder (default: --learning_rate, or 1e-3 on the synthetic data)"
    )
    warmup: float = _option(0.1, "share of the steps in which the learning rate rises before its cosine falls")
    weight_decay: float = _option(1e-4, "of parameters with two or more dimensions")
    max_grad_norm: float | None = _option(
        None, "gradients are scaled down to this norm; 0: never (default: by --recipe)"
    )
    task_loss: str = _option("mse", "error of the score to minimize", ["mse", "mae"])
    orthogonality_weight: float | None = _option(None, "weight of eq. 5 in the loss (default: by --recipe)")
    orthogonality_penalty: str = _option(
        "cosine", "eq. 5: the cosine, as printed, or a function of it", ["cosine", "relu", "abs", "square"]
    )
    reconstruction_weight: float | None = _option(None, "weight of eq. 12 in the loss (default: by --recipe)")
    detach_target: bool = _option(
        False, "stop the gradient into the complete views (eq. 7, 9, 11); as printed, it flows"
    )
    train_pattern: str | None = _option(
        None, f"how training input goes missing: {', '.join(PATTERNS)}, or several joined by + (default: by --recipe)"
    )
    eval_pattern: str | None = _option(
        None, "how test input goes missing at rate r, as for --train_pattern (default: frames)"
    )
    corrupted_share: float | None = _option(
        None, "share of the training samples that are corrupted in an epoch (default: by --recipe)"
    )
    corrupt_by: str = _option(
        "sample",
        "corrupt the same samples in every modality, as the paper has it, or others in each, as LNLN's code does",
        ["sample", "modality"],
    )
    train_rate: float | None = _option(
        None, "missing rate of corrupted training samples (default: one drawn from U(0, 1) for each modality)"
    )
    standardize: bool | None = _option(
        None, "give every feature mean 0 and deviation 1 over the training split (default: by --recipe)"
    )
    consistency_weight: float | None = _option(
        None, "weight of the distance between incomplete and complete input's scores (default: by --recipe)"
    )
    complete_weight: float | None = _option(
        None, "weight of the task's loss on the complete input of corrupted samples (default: by --recipe)"
    )
    average_decay: float | None = _option(
        None, "judge a moving average of the weights with this decay a step; 0: the last weights (default: by --recipe)"
    )
    select_rates: list[float] | None = field(
        default=None,
        metadata={"help": "missing rates at which the validation split judges a checkpoint (default: by --recipe)"},
    )
    select_metric: str | None = _option(
        None, "metric by which a checkpoint is chosen, or last: none is (default: by --recipe)", list(SELECTION_METRICS)
    )
    seed: int = _option(0, "of initial weights, batches, dropout and what goes missing")
    precision: str = _option(
        "auto",
        "auto: bf16 autocast where the hardware has it; fp32 for the default run",
        ["auto", "fp32", "bf16"],
    )
    num_workers: int = _option(0, "processes that load data")
    output_dir: str | None = _option(None, "a new folder (default: runs/DATE-TIME)")
    resume: str | None = _option(None, "go on with the run in this folder, by the options it was started with")
    evaluate: str | None = _option(None, "evaluate the model of the run in this folder again")


def make_parser() -> ArgumentParser:
    """The parser of ``examples/derl_mosi.py``: every option in a titled group, with its default where it has one."""
    parser = ArgumentParser(
        usage="%(prog)s [OPTION VALUE ...]",
        description="Train DERL on sentiment, evaluate it under missing input, and report.",
    )
    kinds = get_type_hints(Options)
    group: Any = parser
    for option in fields(Options):
        if option.name in GROUPS:
            group = parser.add_argument_group(GROUPS[option.name])
        default = option.default_factory() if callable(option.default_factory) else option.default
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        ending = "" if default is None or default is False else f" (default: {shown})"
        settings = option.metadata | {"help": option.metadata["help"] + ending}
        if "choices" not in settings:
            settings["metavar"] = option.name.split("_")[-1].upper()
        group.add_argument(f"--{option.name}", default=default, **_reading(kinds[option.name]), **settings)
    return parser


def _reading(kind: Any) -> dict[str, Any]:
    """How argparse reads an option of a type, ``T``, ``T | None`` or ``list[T]``."""
    (base,) = [part for part in get_args(kind) or (kind,) if part is not NoneType]
    if get_origin(kind) is list or get_origin(base) is list:
        return {"type": get_args(kind if get_origin(kind) is list else base)[0], "nargs": "+"}
    return {"type": _switch, "nargs": "?", "const": True} if base is bool else {"type": base}


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = make_parser()
    found, unknown = parser.parse_known_args(arguments)
    options = Options(**vars(found))
    if unknown:
        parser.error(f"expected options that --help lists, got {' '.join(unknown)}; check the spelling")
    for name in ("data", "text_encoder", "output_dir", "resume", "evaluate"):
        if getattr(options, name) == "":
            parser.error(f"--{name} expected a path or a name, got ''; leave it out instead")
    if options.resume is not None and options.evaluate is not None:
        parser.error("--resume and --evaluate both name a run; give one")
    if options.resume is not None or options.evaluate is not None:
        allowed = {"resume"} if options.resume is not None else {"evaluate", "eval_pattern"}
        untouched = Options()
        others = [f"--{f.name}" for f in fields(Options) if getattr(options, f.name) != getattr(untouched, f.name)]
        others = [other for other in others if other.removeprefix("--") not in allowed]
        if others:
            parser.error(f"a run goes on by the options it was started with; leave out {', '.join(others)}")
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            parser.error(f"--{name} expected a finite number of at least {least}, got {value}")
    for name in (
        "warmup",
        "corrupted_share",
        "train_rate",
        "average_decay",
        *([] if options.select_rates is None else ["select_rates"]),
    ):
        value = getattr(options, name)
        for share in [] if value is None else value if isinstance(value, list) else [value]:
            if not 0 <= share <= 1:
                parser.error(f"--{name} expected numbers in [0, 1], got {share}")
    if options.num_private_experts == options.num_shared_experts == 0:
        parser.error("--num_private_experts and --num_shared_experts expected at least one expert in all, got 0 and 0")
    if options.reconstruction_levels == ["none"]:
        options = replace(options, reconstruction_levels=[])
    others = sorted(set(options.reconstruction_levels) - set(LEVELS))
    if others:
        parser.error(f"--reconstruction_levels expected some of {', '.join(LEVELS)}, got {', '.join(others)}")
    for name in ("train_pattern", "eval_pattern"):
        try:
            parse_pattern("frames" if getattr(options, name) is None else getattr(options, name))
        except ValueError as error:
            parser.error(f"--{name}: {error}")
    return options if options.resume or options.evaluate else fill_in(options)


def fill_in(options: Options) -> Options:
    """Settle what depends on the data, so that a run's folder records what was used, wherever the run is resumed."""
    settled = vars(options).copy()
    for name in ("data", "text_encoder"):
        path = settled[name]
        if path is not None and Path(path).exists():
            settled[name] = str(Path(path).absolute())
    if options.data is not None and options.text_encoder is None:
        settled["text_encoder"] = "bert-base-uncased"
    from_nothing = options.data is None and settled["text_encoder"] is None
    rate = options.learning_rate if options.learning_rate is not None else 2e-4 if options.data is None else 1e-4
    defaults = RECIPES[options.recipe] | {
        "eval_pattern": "frames",
        "epochs": PAPER_EPOCHS if options.recipe == "paper" and options.data is not None else SHORT_EPOCHS,
        "learning_rate": rate,
        "text_learning_rate": 1e-3 if from_nothing else rate,
    }
    settled |= {name: value for name, value in defaults.items() if settled[name] is None}
    if options.precision == "auto" and from_nothing:
        settled["precision"] = "fp32"  # its encoder is too small to gain from bf16
    return Options(**settled)


def describe_selection(metric: str, rates: Sequence[float]) -> str:
    """Name the criterion by which a checkpoint is chosen."""
    if metric == LAST:
        return "no figure: it is the last"
    shown = {"mae": "MAE", "corr": "Corr"}[metric]
    return f"{shown} on validation at r = {describe_rates(rates)}"


def describe_rates(rates: Sequence[float]) -> str:
    """A few rates, or where they start and end."""
    shown = [f"{rate:g}" for rate in rates]
    return ", ".join(shown) if len(shown) < 4 else f"{shown[0]}, {shown[1]} .. {shown[-1]}"
