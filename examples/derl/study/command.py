"""The command line of a study, and the report that each of its words makes."""

import argparse
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path

from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from derl.model.registry import MODELS
from derl.study import pictures, robustness, tables
from derl.study.cells import (
    ABLATIONS,
    DERL,
    METHODS,
    OPTIONS,
    PAPER,
    ROBUST,
    TRAINED_AT,
    UNASKED,
    Variant,
    experts,
    methods,
    trained_on,
)
from derl.study.folder import STUDY, open_study, read_study
from derl.study.ledger import Ledger
from derl.study.report import Report
from derl.study.run import run_cells
from derl.study.statistics import PROTOCOLS
from derl.study.view import View
from derl.train.option_rules import LEAST
from derl.train.options import Options, fill_in
from derl.train.run import RunError

SHARED = {  # options of a run that all cells of a study share
    "data": str,
    "text_encoder": str,
    "preset": str,
    "epochs": int,
    "batch_size": int,
    "learning_rate": float,
    "text_learning_rate": float,
    "weight_decay": float,
    "precision": str,
}
SMOKE = {"preset": "smoke", "epochs": 2, "batch_size": 16}


def main(arguments: list[str] | None = None) -> int:
    """Run the missing cells of a command, and report; the exit code is 1 if a cell failed."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    disable_progress_bar()
    given = {name: getattr(asked, name) for name in SHARED if getattr(asked, name) is not None}
    if asked.smoke and asked.preset is not None:
        parser.error("--smoke sets its own preset; leave out --preset")
    given = SMOKE | given if asked.smoke else given
    for name in LEAST.keys() & given.keys():
        if not LEAST[name] <= given[name] < math.inf:
            parser.error(f"--{name} expected a finite number of at least {LEAST[name]}, got {given[name]}")
    for name in ("study", "data", "text_encoder"):
        if getattr(asked, name) == "":
            parser.error(f"--{name} expected a path or a name, got ''; leave it out instead")
    folder = Path(asked.study)
    options = fill_in(Options(**given))
    if options.preset == "own":
        parser.error("the paper's tables are of CMU-MOSI and CMU-MOSEI; train on your own data with derl_mosi.py")
    if not asked.report_only:
        options = open_study(folder, options, list(given))
    elif (folder / STUDY).exists():
        options = read_study(folder, options, list(given))
    else:
        raise RunError(
            f"{folder}: expected the folder of a study, with {STUDY}, found none; "
            "run without --report_only to start one."
        )
    rows = methods([*dict.fromkeys(["derl", *asked.models])])
    every = reports(options.preset, rows)
    names = list(every) if asked.what == "all" else [asked.what]
    num_seeds = asked.seeds or (1 if options.preset == "smoke" else 3)
    ledger = Ledger(folder)
    view = View(ledger, num_seeds, asked.protocol, options, rows)
    cells = list(dict.fromkeys(cell for name in names for cell in every[name].cells(num_seeds, view.synthetic)))
    view.check(cells)
    failed = {} if asked.report_only else run_cells(ledger, cells, options)
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
    for name in names:
        every[name].write(name, view, console)
    console.print(f"all files are in {folder / asked.protocol}", soft_wrap=True, markup=False, highlight=False)
    for cell, error in failed.items():
        print(f"error: {cell.key} failed and is missing above: {type(error).__name__}: {error}", file=sys.stderr)
    return 1 if failed else 0


def reports(preset: str, rows: Mapping[str, Variant] = METHODS) -> dict[str, Report]:
    """Return every report by name: the paper's in its order, then those of the open question.

    Args:
        preset: the study's.
        rows: rows of the tables of methods.
    """
    compared = list(rows.values())
    return {
        "derl": Report([PAPER], tables.derl),
        "table1": Report(compared, tables.table1),
        "table2": Report(compared, tables.table2),
        "table3": Report(ABLATIONS.values(), tables.table3),
        "table4": Report(ABLATIONS.values(), tables.table4),
        "table5": Report([PAPER, *TRAINED_AT.values()], tables.table5),
        "table6": Report(compared, tables.table6),
        "figure2": Report(compared, figures={"figure2": pictures.figure2}),
        "figure3": Report(
            list(experts(preset).values()),
            partial(tables.experts_table, preset=preset),
            {"figure3": partial(pictures.figure3, preset=preset)},
        ),
        "figure4": Report([PAPER], figures={"figure4": pictures.figure4}, always_valid=True),
        "recipes": Report([METHODS[DERL], METHODS[ROBUST]], robustness.recipes, {"recipes": pictures.recipes}, True),
        "patterns": Report(trained_on().values(), robustness.patterns, {"patterns": pictures.pattern_matrix}, True),
        "options": Report(OPTIONS.values(), tables.options),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Reproduce every table and figure of the DERL paper, and test when its training collapses."
    )
    names = [*reports("mosi"), "all"]
    parser.add_argument("what", choices=names, metavar="what", help=", ".join(names))
    parser.add_argument(
        "--study", default="study", help="folder for results; finished cells are not run again (default: study)"
    )
    parser.add_argument("--seeds", type=seeds, help="number of seeds, counted from 0 (default: 3)")
    parser.add_argument(
        "--protocol",
        default="valid",
        choices=PROTOCOLS,
        help="valid: one checkpoint, selected without the test split; paper: best test epoch per metric at r = 0.5",
    )
    parser.add_argument(
        "--models",
        type=models,
        default=UNASKED,
        help=f"models in tables 1, 2 and 6 and figure 2, after derl: names joined by commas, or all; known are "
        f"{', '.join(MODELS)}. All train with the options of the study, none with its own paper's "
        f"(default: {','.join(UNASKED)})",
    )
    parser.add_argument("--report_only", action="store_true", help="report finished cells without running any")
    parser.add_argument("--smoke", action="store_true", help="quick check of everything: tiny model, little data")
    shared = parser.add_argument_group("options of every training")
    for field in fields(Options):
        if field.name in SHARED:
            choices = field.metadata.get("choices")
            shared.add_argument(
                f"--{field.name}",
                type=SHARED[field.name],
                help=field.metadata["help"],
                choices=choices,
                metavar=None if choices else field.name.split("_")[-1].upper(),
            )
    return parser


def models(text: str) -> list[str]:
    """Parse names of models."""
    names = list(MODELS) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise argparse.ArgumentTypeError(f"expected names out of {', '.join(MODELS)}, or all, got {unknown[0]!r}")
    return names


def seeds(text: str) -> int:
    """Parse a number of seeds."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
