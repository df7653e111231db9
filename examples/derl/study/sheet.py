"""A table with its caption and raw data, and the reference rows beside ours."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from derl.data.label_counts import label_counts
from derl.data.printed import DATA_SETS, PRINTED, in_shares, printed_rows
from derl.data.split import SPLITS
from derl.evaluate.protocol import BEST_POSSIBLE
from derl.evaluate.sentiment import CONSTANTS, SENTIMENT
from derl.evaluate.task import Metrics
from derl.report.tables import Table, markdown
from derl.study.statistics import Statistics, deviation
from derl.study.view import View

MISSING = "missing"
PAIRS: tuple[tuple[str, ...], ...] = (
    ("mae",),
    ("corr",),
    ("acc2_has0", "acc2_non0"),
    ("f1_has0", "f1_non0"),
    ("acc5",),
    ("acc7",),
)


@dataclass
class Sheet:
    """A table of a study.

    Attributes:
        name: name of the files.
        table: the cells, as text.
        caption: what was run, on which data and under which protocol.
        note: note on the paper's printed rows, which is also shown on the terminal.
        data: raw data, one dict per row of the CSV file.
        protocol: protocol of the table, if it differs from the report's.
        is_long: whether the table is too long for the terminal and goes only to files.
    """

    name: str
    table: Table
    caption: str = ""
    note: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    protocol: str | None = None
    is_long: bool = False

    def add(self, label: str, statistics: Statistics | Metrics | None, *more: str, note: str = "") -> None:
        """Append a row of sentiment metrics, of several seeds or of a constant, or a row marked missing."""
        if statistics is None:
            cells = [MISSING] * len(PAIRS)
            self.data.append({"row": label, "figure": MISSING})
        elif isinstance(statistics, Statistics):
            cells = [metric_cell(statistics.mean, statistics.deviation, names) for names in PAIRS]
            for name in statistics.seeds[0]:
                self.add_data(label, name, [seed[name] for seed in statistics.seeds], note)
        else:
            cells = [metric_cell(statistics, {}, names) for names in PAIRS]
            for name, value in statistics.items():
                self.add_data(label, name, [value], note)
        self.table.rows.append([label, *cells, *more])

    def add_data(self, label: str, what: str, values: Sequence[float], note: str = "") -> None:
        """Append raw data, one value per seed."""
        known = [value for value in values if math.isfinite(value)]
        mean = sum(known) / len(known) if len(known) == len(values) and known else math.nan
        self.data.append(
            {
                "row": label,
                "figure": what,
                "note": note,
                "mean": mean,
                "deviation": deviation(values),
                "seeds": " ".join(repr(value) for value in values),
            }
        )

    def markdown(self) -> str:
        return f"{markdown(self.table)}\n\n{self.caption}\n"

    def latex(self) -> str:
        """Return a LaTeX table, which needs the package booktabs."""
        align = ["left"] + ["right"] * (len(self.table.header) - 1)
        body = tabulate(
            self.table.rows, self.table.header, tablefmt="latex_booktabs", disable_numparse=True, colalign=align
        )
        body = body.replace("±", r"$\pm$").replace("−", "$-$")
        caption = _escape(f"{self.table.title}. {self.caption}")
        return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}\n"

    def csv(self) -> str:
        text = io.StringIO(newline="")
        columns = list(dict.fromkeys(name for row in self.data for name in row)) or ["row"]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.data)
        return text.getvalue()


def metric_sheet(name: str, title: str, first: str, *more: str) -> Sheet:
    """Return an empty sheet with the columns of the sentiment metrics."""
    caption = "Acc-2 and F1: negative against non-negative / negative against positive."
    return Sheet(name, Table(title, [first, *(column.title for column in SENTIMENT.columns), *more]), caption)


def metric_cell(mean: Metrics, spread: Mapping[str, float], names: Sequence[str]) -> str:
    """Return one cell with metrics side by side."""
    return " / ".join(number(mean[name], spread.get(name, math.nan), name) if name in mean else "-" for name in names)


def mean_cell(values: Sequence[float], name: str = "mae") -> str:
    """Return one cell with mean and standard deviation over seeds."""
    return number(float(np.mean(values)), deviation(values), name)


def number(mean: float, spread: float = math.nan, name: str = "mae") -> str:
    """Format a mean and its standard deviation: MAE and Corr as numbers, the rest in percent."""
    if not math.isfinite(mean):
        return "-"
    scale, digits = (1, 3) if name in ("mae", "corr") else (100, 2)
    text = f"{scale * mean:.{digits}f}"
    return f"{text} ± {scale * spread:.{digits}f}" if math.isfinite(spread) else text


def _escape(text: str) -> str:
    for plain, written in (("\\", r"\textbackslash{}"), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#")):
        text = text.replace(plain, written)
    return text.replace("±", r"$\pm$").replace("−", "$-$")


def add_constants(view: View, sheet: Sheet, best: Statistics | None) -> None:
    """Append the constant predictors and, if known, the best possible one."""
    record = view.any_record()
    blank = [""] * (len(sheet.table.header) - 1 - len(SENTIMENT.columns))
    sheet.table.rule()
    if record is not None:
        for label in CONSTANTS:
            sheet.add(label, view.constants(record)[label], *blank)
    if view.synthetic:
        sheet.add(BEST_POSSIBLE, best, *blank)


def add_printed(view: View, sheet: Sheet, table: str, only: str | None = None) -> None:
    """Append rows of a table of the paper (all, or one), and note how this study differs from them."""
    blank = [""] * (len(sheet.table.header) - 1 - len(SENTIMENT.columns))
    sheet.table.rule()
    for name, numbers in printed_rows(table, data_set(view)).items():
        if only in (None, name):
            sheet.add(f"printed: {name}", in_shares(numbers), *blank, note=f"printed in {table}, not run")
    sheet.note = printed_note(view, table, with_details=only is None)


def data_set(view: View) -> str:
    """Return the paper's data set that a study uses or imitates; the synthetic data imitates MOSI."""
    return "MOSI" if view.options.data is None else DATA_SETS.get(view.options.preset, "MOSI")


def printed_note(view: View, table: str, with_details: bool = True) -> str:
    """Explain where the printed rows come from, and how this study differs."""
    if not printed_rows(table, data_set(view)):
        return f"The paper prints {table} for CMU-MOSI alone."
    parts = [f"Printed: {table} of the paper, on CMU-{data_set(view)} with {PRINTED['text_encoder']}."]
    if view.options.data is None:
        parts.append("The data here is synthetic: the printed rows are for orientation only.")
    elif differences := _differences(view):
        parts.append(f"Here: {', '.join(differences)}.")
    if with_details:
        parts.append(PRINTED[table].get("note", ""))
    return " ".join(parts).strip()


def _differences(view: View) -> list[str]:
    record = view.any_record()
    if record is None:
        return []
    modalities = record.facts["modalities"]
    differences = [f"no {name}" for name in ("text", "audio", "vision") if name not in modalities]
    encoder = Path(view.options.text_encoder or "").name
    if "text" in modalities and encoder != PRINTED["text_encoder"]:
        differences.append(f"text encoder {encoder}")
    counts = {split: label_counts(torch.from_numpy(record.arrays[f"labels_{split}"])) for split in SPLITS}
    if counts != PRINTED["Table A.7"][data_set(view)]:
        differences.append("label counts other than in Table A.7")
    return differences
