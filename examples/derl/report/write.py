"""Report a run: tables on the terminal, and all results in files."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from derl.data.files import write_file
from derl.report.figures import confusion, robustness, routing
from derl.report.reliability import reliability
from derl.report.tables import (
    Table,
    abstention_table,
    bullets,
    headline,
    inter_modal_table,
    intervals_table,
    intra_modal_table,
    markdown,
    notes,
    origin,
    warnings,
)

LABEL_WIDTH = 20


def write_report(
    results: dict[str, Any], predictions: list[dict[str, Any]], folder: Path, console: Console | None = None
) -> None:
    """Print the tables, and write results.json, report.md, predictions.csv and the figures, each atomically.

    Args:
        results: results of :func:`derl.evaluate.protocol.evaluate`, with their provenance.
        predictions: one dict per test sample: id, label, and the score under every condition.
        folder: folder for the files. Files of an earlier report are replaced.
        console: console for the tables. Default: standard output.

    Raises:
        OSError: A file cannot be written; the error names it.
    """
    console = console or Console(width=None if sys.stdout.isatty() else 100)
    tables = [intra_modal_table(results), inter_modal_table(results)]
    _print(console, results, tables)
    write_file(folder / "results.json", _json(results))
    write_file(folder / "predictions.csv", _csv(predictions))
    drawn = pictures(results)
    for name, draw in drawn.items():
        picture = io.BytesIO()
        draw(results).savefig(picture, format="png", dpi=150)
        write_file(folder / name, picture.getvalue())
    tables += [intervals_table(results), abstention_table(results)]
    write_file(folder / "report.md", _markdown(results, tables, list(drawn)).encode())
    console.print(Text(f"report, predictions and pictures: {folder}"))


def pictures(results: dict[str, Any]) -> dict[str, Callable[[dict[str, Any]], Figure]]:
    """Return the functions that draw the report's pictures, by file name."""
    found = {"robustness.png": robustness, "reliability.png": reliability}
    for name, draw in (("confusion", confusion), ("routing", routing)):
        if results[name] is not None:
            found[f"{name}.png"] = draw
    return found


def _print(console: Console, results: dict[str, Any], tables: list[Table]) -> None:
    console.print(Text(f"\n{headline(results)}\n"))
    for table in tables:
        print_table(console, table)
    for line in notes(results):
        console.print(Text(line))
    for line in warnings(results):
        console.print(Text(line, style="bold"))


def print_table(console: Console, table: Table) -> None:
    """Print a table on the terminal, split into parts if it is too wide.

    Every part repeats the labels. Later parts omit rows that would be empty.
    """
    for number, columns in enumerate(_parts(table, console.width)):
        title = None if number else table.title
        printed = RichTable(title=title, title_justify="left", box=HORIZONTALS, show_edge=False, pad_edge=False)
        printed.add_column(table.header[0], overflow="fold", ratio=1, min_width=LABEL_WIDTH)
        for column in columns:
            printed.add_column(table.header[column], justify="right", no_wrap=True)
        for index, row in enumerate(table.rows):
            cells = [row[column] for column in columns]
            if index in table.rules and printed.rows:
                printed.rows[-1].end_section = True
            if not number or any(cells):
                printed.add_row(*map(Text, [row[0], *cells]))
        console.print(printed)
        console.print()


def _parts(table: Table, width: int) -> list[list[int]]:
    """Return the columns of each part; the last part has more than one column if possible."""
    needed = [max(map(len, cells)) + len(" | ") for cells in zip(table.header, *table.rows, strict=True)]
    parts: list[list[int]] = [[]]
    for column in range(1, len(needed)):
        if parts[-1] and not _fits(needed, [*parts[-1], column], width):
            parts.append([])
        parts[-1].append(column)
    if len(parts) > 1 and len(parts[-1]) == 1 and len(parts[-2]) > 2:
        moved = [parts[-2][-1], *parts[-1]]
        if _fits(needed, moved, width):
            parts[-2:] = [parts[-2][:-1], moved]
    return parts


def _fits(needed: Sequence[int], columns: Sequence[int], width: int) -> bool:
    return LABEL_WIDTH + sum(needed[column] for column in columns) <= width


def _markdown(results: dict[str, Any], tables: list[Table], pictures: list[str]) -> str:
    parts = [f"# {results['model']} on {results['data']['name']}", headline(results)]
    parts += [markdown(table) for table in tables]
    parts += [bullets([*notes(results), *warnings(results)])]
    parts += [f"![{name.removesuffix('.png')}]({name})" for name in pictures]
    seconds = ", ".join(f"{name} {seconds:.0f}" for name, seconds in results["seconds"].items())
    parts += ["## How", bullets([*origin(results), f"seconds: {seconds}"])]
    if "options" in results:
        parts += ["```json\n" + json.dumps(results["options"], indent=2) + "\n```"]
    return "\n\n".join(parts) + "\n"


def _json(results: dict[str, Any]) -> bytes:
    return (json.dumps(_strict(results), indent=2, allow_nan=False) + "\n").encode()


def _strict(value: Any) -> Any:
    """Replace NaN and infinities by None, since JSON cannot express them."""
    if isinstance(value, dict):
        return {key: _strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(predictions: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(predictions[0]))
    writer.writeheader()
    writer.writerows(predictions)
    return text.getvalue().encode()
