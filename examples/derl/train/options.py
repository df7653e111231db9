"""The command-line options of ``examples/derl_mosi.py``."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from derl.data.absence import PARTLY_MISSING
from derl.data.printed import DATA_SETS
from derl.data.rows import find_table
from derl.model.registry import MODELS
from derl.train.option_rules import check
from derl.train.recipes import LAST, PAPER_EPOCHS, RECIPES, SELECTION_METRICS, SHORT_EPOCHS, TASKS, WORDS
from modx.missing import PATTERNS
from modx.model import DROPPED
from modx.reconstruct import LEVELS

GROUPS = {  # first option of a group -> title of the group
    "data": "data",
    "preset": "model",
    "recipe": "training",
    "train_pattern": "missing input",
    "standardize": "robustness to missing input",
    "select_rates": "checkpoint selection",
    "seed": "run",
}


def _option(default: Any, text: str, choices: Collection[str] | None = None) -> Any:
    return field(default=default, metadata={"help": text} | ({"choices": choices} if choices else {}))


@dataclass(frozen=True)
class Options:
    """Options of a run: batch size, cosine and learning rate from the paper (Li et al.), warmup and decay from LNLN."""

    data: str | None = _option(
        None,
        "table of your own (CSV, Parquet, or a folder that holds one), MMSA-layout pickle, safetensors file or shards "
        "(default: synthetic data)",
    )
    group: str | None = _option(
        None, "column of a table without splits whose rows stay in one split, e.g. the speaker (default: group)"
    )
    task: str = _option("regress", "labels are numbers (regress) or classes (classify)", list(TASKS))
    text_features: bool = _option(
        False, "read precomputed features (key text of the pickle) instead of words (key raw_text)"
    )
    text_encoder: str | None = _option(
        None,
        "Hugging Face text encoder: a folder or a name, or words: a small one trained from the data (default with "
        "--data: bert-base-uncased)",
    )
    preset: str | None = _option(
        None,
        "the paper's model for a data set (mosi, mosei), that of mosi for labels on any scale (own), or a quick check: "
        "a tiny model on little synthetic data (default: own for a table, else mosi)",
        ["mosi", "mosei", "own", "smoke"],
    )
    model: str = _option(
        "derl",
        "model to train: plain is a linear layer on mean features; the others but derl are systems that the paper "
        "compares DERL with",
        MODELS,
    )
    disentangler: str = _option(
        "experts", "HED, or one private MLP per modality and one shared MLP, without a router", ["experts", "mlp"]
    )
    num_private_experts: int | None = _option(None, "private experts per modality (default: set by --preset)")
    num_shared_experts: int | None = _option(None, "experts shared by all modalities (default: set by --preset)")
    reconstruction_levels: list[str] = field(
        default_factory=lambda: list(LEVELS),
        metadata={"help": "levels that MLCR reconstructs: input, disentangled, joint; 'none' disables MLCR"},
    )
    fusion: str = _option("router", "MRF, or equal weights for all views", ["router", "mean"])
    recipe: str = _option("paper", "training recipe, which sets the defaults marked 'set by --recipe'", list(RECIPES))
    epochs: int | None = _option(
        None,
        f"number of epochs (default: {PAPER_EPOCHS} for --recipe paper with --data, else {SHORT_EPOCHS})",
    )
    batch_size: int | None = _option(None, "samples per step (default: 64, or that of --model's own paper)")
    learning_rate: float | None = _option(
        None,
        "peak learning rate, except for the text encoder (default: 1e-4, or 2e-4 on synthetic data and with "
        "--text_encoder words)",
    )
    text_learning_rate: float | None = _option(
        None, "peak learning rate of the text encoder (default: --learning_rate, or 1e-3 for one trained from scratch)"
    )
    warmup: float = _option(0.1, "share of steps for linear warmup (from LNLN's code), followed by cosine decay")
    weight_decay: float | None = _option(
        None,
        "weight decay of all parameters but biases, norms and temperatures (default: 1e-4, or that of --model's own "
        "paper)",
    )
    max_grad_norm: float | None = _option(None, "maximum gradient norm; 0: no clipping (default: set by --recipe)")
    task_loss: str | None = _option(
        None, "loss of the score (default: mse, or that of --model's own paper)", ["mse", "mae"]
    )
    orthogonality_weight: float | None = _option(None, "weight of eq. 5 in the loss (default: set by --recipe)")
    orthogonality_penalty: str = _option(
        "cosine", "penalty in eq. 5: the cosine, as printed, or a function of it", ["cosine", "relu", "abs", "square"]
    )
    reconstruction_weight: float | None = _option(None, "weight of eq. 12 in the loss (default: set by --recipe)")
    detach_target: bool = _option(False, "stop gradients into the complete views (eq. 7, 9, 11); the paper does not")
    train_pattern: str | None = _option(
        None,
        f"how training input goes missing: {', '.join(PATTERNS)}, or several joined by + (default: set by --recipe)",
    )
    eval_pattern: str | None = _option(
        None, "how test input goes missing at rate r, as for --train_pattern (default: frames)"
    )
    corrupted_share: float | None = _option(
        None, "share of training samples corrupted per epoch (default: set by --recipe)"
    )
    corrupt_by: str | None = _option(
        None,
        "corrupt the same samples in every modality (paper), or draw samples per modality (LNLN's code) (default: "
        "sample, or modality for --model lnln)",
        ["sample", "modality"],
    )
    train_rate: float | None = _option(
        None, "missing rate of corrupted training samples (default: drawn from U(0, 1) per modality)"
    )
    standardize: bool | None = _option(
        None, "scale every feature to mean 0 and standard deviation 1 on the training split (default: set by --recipe)"
    )
    dropped_modality: str | None = _option(
        None,
        "a modality that is dropped whole is erased (zeros or [UNK], as in the paper) or absent, as if the sample had "
        "none (default: absent if any sample of the data lacks a modality or --unimodal_weight is not 0, else erased)",
        DROPPED,
    )
    partly_missing: str = _option(
        "impute",
        "fill in missing (NaN) values in a frame by the training mean, or mask the frame",
        PARTLY_MISSING,
    )
    consistency_weight: float | None = _option(
        None,
        "loss weight of the distance between the scores of incomplete and complete input (default: set by --recipe)",
    )
    complete_weight: float | None = _option(
        None, "weight of the task loss on the complete input of corrupted samples (default: set by --recipe)"
    )
    unimodal_weight: float | None = _option(
        None,
        "DERL: loss weight of each modality's own answer, whose mean is added to the score; 0: none (default: set by "
        "--recipe)",
    )
    average_decay: float | None = _option(
        None,
        "evaluate a moving average of the weights with this decay per step; 0: no average (default: set by --recipe)",
    )
    select_rates: list[float] | None = field(
        default=None,
        metadata={"help": "missing rates of the validation split for checkpoint selection (default: set by --recipe)"},
    )
    select_metric: str | None = _option(
        None,
        "metric for checkpoint selection; last: the last epoch (default: set by --recipe)",
        [*SELECTION_METRICS, LAST],
    )
    seed: int = _option(0, "seed of initial weights, batches, dropout and missing input")
    precision: str = _option(
        "auto",
        "auto: bf16 autocast if the hardware has bf16 units, but fp32 for the default run",
        ["auto", "fp32", "bf16"],
    )
    num_workers: int = _option(0, "data loader processes")
    output_dir: str | None = _option(None, "new folder for the run (default: runs/DATE-TIME)")
    resume: str | None = _option(None, "resume the run in this folder, with the options it was started with")
    evaluate: str | None = _option(None, "evaluate the model of the run in this folder")

    @property
    def sentiment(self) -> bool:
        """Whether labels are sentiment in [-3, 3]: those of MOSI and MOSEI are, and of the synthetic data."""
        return self.task == "regress" and (self.preset in DATA_SETS or (self.preset == "smoke" and self.data is None))


def make_parser() -> ArgumentParser:
    """Make the parser of ``examples/derl_mosi.py``, with the options in titled groups."""
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
        settings = option.metadata | {"help": option.metadata["help"] + ending} | _reading(kinds[option.name])
        if "choices" not in settings:
            settings.setdefault("metavar", option.name.split("_")[-1].upper())
        group.add_argument(f"--{option.name}", default=default, **settings)
    return parser


def _reading(kind: Any) -> dict[str, Any]:
    """Return argparse's arguments for an option of type ``T``, ``T | None`` or ``list[T]``."""
    (base,) = [part for part in get_args(kind) or (kind,) if part is not NoneType]
    if get_origin(kind) is list or get_origin(base) is list:
        return {"type": get_args(kind if get_origin(kind) is list else base)[0], "nargs": "+"}
    return {"type": _switch, "nargs": "?", "const": True, "metavar": "{true,false}"} if base is bool else {"type": base}


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
        parser.error(f"expected options that --help lists, got {' '.join(unknown)}")
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
            parser.error(f"a run keeps the options it was started with; leave out {', '.join(others)}")
    if options.reconstruction_levels == ["none"]:
        options = replace(options, reconstruction_levels=[])
    try:
        check(options)
    except ValueError as error:
        parser.error(str(error))
    return options if options.resume or options.evaluate else fill_in(options)


def fill_in(options: Options) -> Options:
    """Fill in defaults that depend on the data, so that the run's folder records the values used."""
    settled = vars(options).copy()
    for name in ("data", "text_encoder"):
        path = settled[name]
        if path is not None and path != WORDS and Path(path).exists():
            settled[name] = str(Path(path).absolute())
    if options.data is not None and options.text_encoder is None:
        settled["text_encoder"] = "bert-base-uncased"
    from_nothing = settled["text_encoder"] in (None, WORDS)
    usual = 2e-4 if options.data is None or from_nothing else 1e-4
    rate = options.learning_rate if options.learning_rate is not None else usual
    defaults = RECIPES[options.recipe] | {
        "preset": "mosi" if options.data is None or find_table(options.data) is None else "own",
        "eval_pattern": "frames",
        "epochs": PAPER_EPOCHS if options.recipe == "paper" and options.data is not None else SHORT_EPOCHS,
        "learning_rate": rate,
        "text_learning_rate": 1e-3 if from_nothing else rate,
        "batch_size": 64,
        "weight_decay": 1e-4,
        "task_loss": "mse",
        "corrupt_by": "sample",
    }
    if options.recipe == "paper":  # the model's own paper's
        own = dict(MODELS[options.model].recipe)
        if from_nothing:
            own.pop("text_learning_rate", None)
        defaults |= own
    if options.task == "classify" and defaults["select_metric"] != LAST:
        defaults["select_metric"] = next(iter(TASKS["classify"]))
    settled |= {name: value for name, value in defaults.items() if settled[name] is None}
    if options.precision == "auto" and from_nothing:
        settled["precision"] = "fp32"  # the encoder is too small to gain from bf16
    return Options(**settled)
