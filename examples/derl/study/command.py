"""The command line of a study."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from derl.options import Options, parse
from derl.run import RunError
from derl.study.commands import commands
from derl.study.folder import OPTIONS, open_study
from derl.study.judge import PROTOCOLS
from derl.study.report import write
from derl.study.view import View
from derl.study.work import work

SHARED = (  # options of a single run that all cells of a study share
    "data",
    "text_encoder",
    "preset",
    "epochs",
    "batch_size",
    "learning_rate",
    "text_learning_rate",
    "weight_decay",
    "precision",
)


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing for a command, and report."""
    asked = _parser().parse_args(arguments)
    disable_progress_bar()
    given = {name: getattr(asked, name) for name in SHARED if getattr(asked, name) is not None}
    if asked.smoke:
        given |= {"preset": "smoke"} | {"epochs": given.get("epochs", "2"), "batch_size": given.get("batch_size", "16")}
    folder = Path(asked.study)
    if asked.report_only and not (folder / OPTIONS).exists():
        raise RunError(f"{folder}: expected the folder of a study, with {OPTIONS}, found none; check --study.")
    options = parse([part for name, value in given.items() for part in (f"--{name}", value)])
    ledger, options = open_study(folder, options, list(given))
    every = commands(options.preset)
    names = list(every) if asked.what == "all" else [asked.what]
    seeds = asked.seeds or (1 if options.preset == "smoke" else 3)
    view = View(ledger, seeds, asked.protocol, options)
    if not asked.report_only:
        cells = list(dict.fromkeys(cell for name in names for cell in every[name].cells(seeds, view.synthetic)))
        work(ledger, cells, options)
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name in names:
        write(name, every[name], view, console)
    console.print(f"everything is in {folder / asked.protocol}", soft_wrap=True, markup=False, highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Every table and figure of the DERL paper, and the question it leaves open."
    )
    names = [*commands("mosi"), "all"]
    parser.add_argument("what", choices=names, metavar="what", help=", ".join(names))
    parser.add_argument("--study", default="study", help="folder in which results accumulate")
    parser.add_argument("--seeds", type=_positive, help="how many, from 0 on; left out: 3")
    parser.add_argument(
        "--protocol",
        default="valid",
        choices=PROTOCOLS,
        help="valid: one checkpoint, chosen on validation; paper: for each metric the epoch best on the test split",
    )
    parser.add_argument("--report_only", action="store_true", help="run nothing; report what is there")
    parser.add_argument("--smoke", action="store_true", help="a quick check of everything: tiny model, little data")
    for field in fields(Options):
        if field.name in SHARED:
            parser.add_argument(
                f"--{field.name}", help=field.metadata["help"], choices=field.metadata.get("choices"), metavar="X"
            )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value
