"""Print the records of a ledger: a row per model, our model beside the best other one, and published rows."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from rich import box
from rich.console import Console
from rich.table import Table

from actions.comparison import compare, score, summarize
from actions.conditions import CONDITIONS, LOST, PUBLISHED
from actions.ledger import Record

OURS = "experts"
COLUMNS = {
    "mean": "mean",
    "complete": "complete",
    "accelerometer+gyroscope": "no skeleton",
    "skeleton": "skeleton",
    "frames 0.9": "frames .9",
    "block 0.7": "block .7",
}
Records = dict[str, list[Record]]  # model -> its records


def print_report(records: Iterable[Record], console: Console) -> None:
    """Print all tables of records that share a kind of split."""
    models: Records = {}
    for record in records:
        models.setdefault(record.model, []).append(record)
    if not models:
        return
    console.print(_overview(models))
    console.print("mean: complete, every subset, frames .3 to .9, block .3 to .7; ±: over seeds")
    if plain := _paired(models):
        best = max(plain, key=lambda name: fmean(score(record, "mean") for record in plain[name]))
        console.print(_pair(models, best))
        console.print("*: the 95 % bootstrap interval over pairs of one seed and split excludes 0")
    if all(PUBLISHED[0] in record.accuracy for found in models.values() for record in found):
        console.print(_published(models))
        console.print("published: on the test split, copied from examples/actions/published.json")


def _paired(models: Records) -> Records:
    """Return the models without our blocks that share a seed and a split with ours."""
    ours = models.get(OURS, [])
    others = {name: found for name, found in models.items() if name not in (OURS, "paper")}
    return {name: found for name, found in others.items() if compare(ours, found, "mean")}


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _overview(models: Records) -> Table:
    table = _table("Accuracy, %", "model")
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for name, records in models.items():
        table.add_row(name, *(summarize(records, condition) for condition in COLUMNS))
    return table


def _pair(models: Records, best: str) -> Table:
    table = _table(f"{OURS} and the best plain model, {best}", "kept")
    for title in (OURS, best, "difference"):
        table.add_column(title, justify="right", no_wrap=True)
    for condition in ("mean", *CONDITIONS):
        found = compare(models[OURS], models[best], condition)
        assert found is not None  # both have a pair
        text = f"{found.mean:+.1f}"
        if found.interval:
            low, high = found.interval
            text += f" [{low:+.1f}, {high:+.1f}]" + ("*" if low > 0 or high < 0 else " ")
        table.add_row(condition, *(summarize(models[name], condition) for name in (OURS, best)), text)
    return table


def _published(models: Records) -> Table:
    columns = {
        "published clean": "clean",
        "frames lost": "frames lost",
        LOST[2]: "skeleton half",
        LOST[5]: "inertial half",
        "published no skeleton": "no skeleton",
        "published no inertial": "no inertial",
    }
    table = _table("The published masks", "model")
    for title in columns.values():
        table.add_column(title, justify="right")
    for name, records in models.items():
        table.add_row(name, *(summarize(records, condition) for condition in columns))
    table.add_section()
    for row in json.loads(Path(__file__).with_name("published.json").read_text())["rows"]:
        table.add_row(row["model"], *(_cell(row["accuracy"], condition) for condition in columns))
    return table


def _cell(accuracy: Mapping[str, float], condition: str) -> str:
    return f"{accuracy[condition]:.1f}" if condition in accuracy else "-"
