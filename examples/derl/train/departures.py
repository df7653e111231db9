"""Where a run's settings depart from the paper's recipe; docs/paper.md says which settings the paper prints."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from derl.model.config import DerlConfig
from derl.train.options import Options, fill_in
from derl.train.recipes import PAPER_EPOCHS, WORDS

ENCODER = "bert-base-uncased"
NO_WARMUP = 0.0  # section 4.2 has none; LNLN, whose protocol it follows, warms up over a tenth of the epochs
OF_A_RUN = {
    "data",
    "group",
    "task",
    "text_features",
    "text_encoder",
    "preset",
    "recipe",
    "seed",
    "precision",
    "num_workers",
    "eval_pattern",
} | {
    "output_dir",
    "resume",
    "evaluate",
}


def departures(options: Options) -> list[str]:
    """Return each setting that departs from the recipe (section 4.2, eq. 18), with the recipe's value.

    Example:
        >>> from derl.train.options import parse
        >>> departures(parse(["--data", "mosi.pkl", "--epochs", "50"]))
        ['epochs 50 instead of 200', "warmup 0.1 (LNLN's) instead of 0"]
    """
    paper = fill_in(Options(data="", text_encoder=ENCODER))
    config = DerlConfig.mosei() if options.preset == "mosei" else DerlConfig()
    found = [] if options.data is not None else ["synthetic data instead of CMU-MOSI or CMU-MOSEI"]
    small = options.text_encoder in (None, WORDS)
    encoder = "(small, trained from scratch)" if small else Path(options.text_encoder).name
    if encoder != ENCODER:
        found.append(f"text encoder {encoder} instead of {ENCODER}")
    for field in fields(Options):
        own, theirs = getattr(options, field.name), getattr(paper, field.name)
        if field.name in ("num_private_experts", "num_shared_experts"):
            theirs = getattr(config, field.name)
            own = theirs if own is None else own
        if field.name == "warmup":
            theirs, own = NO_WARMUP, f"{own:g} (LNLN's)" if own == theirs else own
        if field.name not in OF_A_RUN and own != theirs:
            found.append(f"{field.name} {_shown(own)} instead of {_shown(theirs)}")
    if options.preset == "smoke":
        found.append("a tiny model")
    return found


def announce(options: Options) -> str:
    """Describe how long a run trains, and how it departs from the paper's recipe."""
    if options.preset == "own":
        return f"Training for {options.epochs} epochs by the recipe {options.recipe}; --epochs changes it."
    found = departures(options)
    if options.epochs == PAPER_EPOCHS and options.recipe == "paper":
        line = f"Training for {PAPER_EPOCHS} epochs, as in the paper; --epochs shortens it."
    else:
        line = f"Training for {options.epochs} epoch{'s' if options.epochs != 1 else ''}."
    return f"{line} Departs from the paper's recipe in: {'; '.join(found) or 'nothing'}."


def _shown(value: Any) -> str:
    if value is None:
        return "one drawn from U(0, 1)"  # only train_rate can still be None
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
