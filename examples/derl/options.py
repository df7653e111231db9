"""What the command can be told."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

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
    "seed": 0,
    "num_workers": 0,
}


def _option(default: Any, text: str, choices: list[str] | None = None) -> Any:
    return field(default=default, metadata={"help": text} | ({"choices": choices} if choices else {}))


@dataclass
class Options:
    """Every option of ``examples/derl_mosi.py``; batch size, schedule and learning rate are the paper's (Li et al.)."""

    data: str | None = _option(None, "MMSA-layout pickle, such as unaligned_50.pkl; left out: synthetic data")
    text_encoder: str | None = _option(
        None, "Hugging Face text encoder, a folder or a name; left out with --data: bert-base-uncased"
    )
    preset: str = _option("mosi", "sizes of the paper's model on that data set", ["mosi", "mosei"])
    model: str = _option("derl", "derl, or its plain baseline: a linear layer on means", ["derl", "plain"])
    epochs: int = _option(15, "passes over the training split")
    batch_size: int = _option(64, "samples a step")
    learning_rate: float | None = _option(
        None, "peak, of all but the text encoder; left out: 1e-4, or 2e-4 on the synthetic data"
    )
    text_learning_rate: float | None = _option(
        None, "peak, of the text encoder; left out: as --learning_rate, or 1e-3 on the synthetic data"
    )
    warmup: float = _option(0.1, "share of the steps in which the learning rate rises before its cosine falls")
    weight_decay: float = _option(1e-4, "of parameters with two or more dimensions")
    max_grad_norm: float = _option(1.0, "gradients are scaled down to this norm")
    task_loss: str = _option("mse", "error of the score to minimise", ["mse", "mae"])
    orthogonality_weight: float = _option(0.1, "weight of eq. 5 in the loss")
    orthogonality_penalty: str = _option(
        "cosine", "eq. 5: the cosine, as printed, or a function of it", ["cosine", "relu", "abs", "square"]
    )
    reconstruction_weight: float = _option(0.1, "weight of eq. 12 in the loss")
    detach_target: bool = _option(
        False, "stop the gradient into the complete views (eq. 7, 9, 11); as printed, it flows"
    )
    seed: int = _option(0, "of initial weights, batches, dropout and what goes missing")
    precision: str = _option(
        "auto",
        "auto: bf16 autocast where the hardware has it; fp32 for the default run",
        ["auto", "fp32", "bf16"],
    )
    num_workers: int = _option(0, "processes that load data")
    output_dir: str | None = _option(None, "a new folder; left out: runs/DATE-TIME")
    resume: str | None = _option(None, "go on with the run in this folder, by the options it was started with")
    evaluate: str | None = _option(None, "judge the model of the run in this folder again")


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = HfArgumentParser(Options, description="Train DERL on sentiment, judge it under missing input, and report.")
    (options,) = parser.parse_args_into_dataclasses(arguments)
    if options.resume is not None and options.evaluate is not None:
        parser.error("--resume and --evaluate both name a run; give one")
    if options.resume is not None or options.evaluate is not None:
        given = [f.name for f in fields(Options) if getattr(options, f.name) != f.default]
        if len(given) > 1:
            others = ", ".join(f"--{name}" for name in given if name not in ("resume", "evaluate"))
            parser.error(f"a run goes on by the options it was started with; leave out {others}")
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            parser.error(f"--{name} expected a finite number of at least {least}, got {value}")
    _fill_in(options)
    return options


def _fill_in(options: Options) -> None:
    """Set what depends on the data, so that the run's folder records what was used, wherever it is gone on with."""
    for name in ("data", "text_encoder"):
        path = getattr(options, name)
        if path is not None and Path(path).exists():
            setattr(options, name, str(Path(path).absolute()))
    from_nothing = options.data is None and options.text_encoder is None
    if options.learning_rate is None:
        options.learning_rate = 2e-4 if options.data is None else 1e-4
    if options.text_learning_rate is None:
        options.text_learning_rate = 1e-3 if from_nothing else options.learning_rate
    if options.precision == "auto" and from_nothing:
        options.precision = "fp32"  # its encoder is too small to gain from bf16
