"""Print the records of a ledger: a row per model, our model beside the best other one, and published rows."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

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
    console.print("mean: over complete, every subset, frames .3 to .9 and block .3 to .7; ±: over seeds")
    plain = (
        [name for name in models if name not in (OURS, "paper") and compare(models[OURS], models[name], "mean")]
        if (OURS in models)
        else []
    )
    if plain:
        best = max(plain, key=lambda name: sum(score(one, "mean") for one in models[name]) / len(models[name]))
        console.print(_pair(models, best))
        console.print("*: the 95 % bootstrap interval over pairs of one seed and split excludes 0")
    if all(PUBLISHED[0] in record.accuracy for found in models.values() for record in found):
        console.print(_published(models))
        console.print("published: on the test split, copied from examples/actions/published.json")


def _overview(models: Records) -> Table:
    table = Table(title="Accuracy, %", title_justify="left", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=False)
    for name, records in models.items():
        table.add_row(name, *(summarize(records, condition) for condition in COLUMNS))
    return table


def _pair(models: Records, best: str) -> Table:
    table = Table(title=f"{OURS} and the best plain model, {best}", title_justify="left")
    table.add_column("kept", no_wrap=True)
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
        LOST[2]: "skeleton -50 %",
        LOST[5]: "inertial -50 %",
        "published no skeleton": "no skeleton",
        "published no inertial": "no inertial",
    }
    table = Table(title="The published masks", title_justify="left", pad_edge=False)
    table.add_column("model", no_wrap=True)
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
