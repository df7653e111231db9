"""Print what a ledger's records say, in 80 columns."""

from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np
from rich.console import Console
from rich.table import Table

from icu.ledger import Record
from icu.missing import CONDITIONS
from icu.scores import METRICS

OURS = "modx"
PUBLISHED = {  # AUROC, AUPRC on the test stays of Raindrop's splits, as collected in arXiv 2509.17809, table 3
    "GRU-D": (81.9, 46.1),
    "ContiFormer": (82.1, 44.8),
    "Raindrop": (82.8, 44.0),
    "mTAND": (84.2, 48.2),
    "ViTST": (85.1, 51.1),
    "Warpformer": (86.5, 54.3),
    "GraFITi": (86.6, 54.8),
    "MTM": (88.0, 58.6),
}
HEADINGS = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier", "ece": "ECE"}
SHORT = {  # conditions as column heads
    "complete": "all",
    "no vitals": "no\nvit",
    "no laboratory": "no\nlab",
    "no support": "no\nsup",
    "no static": "no\nsta",
    "only vitals": "only\nvit",
    "half the vitals": "half\nvit",
    "half the hours": "half\nh",
    "first 24 hours": "first\n24 h",
}
RESAMPLES = 10_000
Runs = dict[str, list[Record]]  # model -> its records, in the same order of splits and seeds


def print_report(runs: Runs, part: str, console: Console) -> None:
    """Print scores, what is left when more is missing, and paired differences, on one part of the splits."""
    _print_scores(runs, part, console)
    for metric in ("auroc", "auprc"):
        _print_conditions(runs, part, metric, console)
    if OURS in runs and len(runs) > 1:
        _print_differences(runs, part, console)


def _print_scores(runs: Runs, part: str, console: Console) -> None:
    table = _table(f"Complete input, {part} stays, %", ["model", *HEADINGS.values()])
    for model, records in runs.items():
        table.add_row(model, *(_spread([_figure(r, part, "complete", metric) for r in records]) for metric in METRICS))
    table.add_section()
    for model, figures in PUBLISHED.items():
        table.add_row(f"{model} *", *(f"{figure:.1f}" for figure in figures), "", "")
    console.print(table)
    console.print("* published, on the test stays of Raindrop's splits")


def _print_conditions(runs: Runs, part: str, metric: str, console: Console) -> None:
    table = _table(f"{HEADINGS[metric]} when more is missing, {part} stays, %", ["model", *SHORT.values(), "mean"])
    for model, records in runs.items():
        figures = [mean(_figure(r, part, name, metric) for r in records) for name in CONDITIONS]
        table.add_row(model, *(f"{figure:.1f}" for figure in [*figures, mean(figures)]))
    console.print(table)


def _print_differences(runs: Runs, part: str, console: Console) -> None:
    heads = ["modx minus", "AUROC", "AUPRC", "AUROC, no lab.", "AUROC, mean"]
    table = _table(f"Paired differences, {part} stays, points", heads)
    for model, records in runs.items():
        if model == OURS:
            continue
        pairs = list(zip(runs[OURS], records, strict=True))
        columns = [
            ("auroc", ["complete"]),
            ("auprc", ["complete"]),
            ("auroc", ["no laboratory"]),
            ("auroc", CONDITIONS),
        ]
        table.add_row(
            model, *(_lead([_average(a, part, *c) - _average(b, part, *c) for a, b in pairs]) for c in columns)
        )
    console.print(table)
    if len(runs[OURS]) > 1:
        console.print("± is the standard deviation over splits; [ ] is the 95 % bootstrap interval of the mean.")


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean, from resampled differences."""
    draws = np.random.default_rng(0).choice(differences, (RESAMPLES, len(differences)))
    low, high = np.quantile(draws.mean(1), [0.025, 0.975])
    return float(low), float(high)


def _lead(differences: Sequence[float]) -> str:
    if len(differences) < 2:
        return f"{differences[0]:+.1f}"
    low, high = interval(differences)
    return f"{mean(differences):+.1f} ± {stdev(differences):.1f}\n[{low:+.1f}, {high:+.1f}]"


def _spread(figures: Sequence[float]) -> str:
    return f"{mean(figures):.1f}" + (f" ± {stdev(figures):.1f}" if len(figures) > 1 else "")


def _average(record: Record, part: str, metric: str, conditions: Sequence[str]) -> float:
    return mean(_figure(record, part, name, metric) for name in conditions)


def _figure(record: Record, part: str, condition: str, metric: str) -> float:
    return record[part][condition][metric]


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", padding=(0, 0) if len(heads) > 6 else (0, 1))
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left")
    return table
