"""Where a run's settings depart from the paper's (section 4.2, eq. 18)."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from derl.options import Options, fill_in
from derl.recipes import PAPER_EPOCHS

ENCODER = "bert-base-uncased"
OF_A_RUN = {"data", "text_encoder", "preset", "recipe", "seed", "precision", "num_workers", "eval_pattern"} | {
    "output_dir",
    "resume",
    "evaluate",
}


def departures(options: Options) -> list[str]:
    """Each setting in which a run departs, with the paper's beside it.

    Example:
        >>> from derl.options import parse
        >>> departures(parse(["--data", "mosi.pkl", "--epochs", "50"]))
        ['epochs 50 (paper: 200)']
    """
    paper = fill_in(Options(data="", text_encoder=ENCODER))
    found = [] if options.data is not None else ["data synthetic (paper: CMU-MOSI, CMU-MOSEI)"]
    encoder = "a small one trained along" if options.text_encoder is None else Path(options.text_encoder).name
    if encoder != ENCODER:
        found.append(f"text encoder {encoder} (paper: {ENCODER})")
    for field in fields(Options):
        own, theirs = getattr(options, field.name), getattr(paper, field.name)
        if field.name not in OF_A_RUN and own != theirs:
            found.append(f"{field.name} {_shown(own)} (paper: {_shown(theirs)})")
    if options.preset == "smoke":
        found.append("a tiny model (--preset smoke)")
    return found


def announce(options: Options) -> str:
    """Say by which recipe a run trains, and in what it departs from the paper's."""
    found = departures(options)
    if options.epochs == PAPER_EPOCHS and options.recipe == "paper":
        line = f"Training for {PAPER_EPOCHS} epochs, as in the paper; --epochs shortens it."
    else:
        line = f"Training for {options.epochs} epoch{'s' if options.epochs != 1 else ''}."
    return f"{line} Settings other than the paper's: {'; '.join(found) or 'none'}."


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
