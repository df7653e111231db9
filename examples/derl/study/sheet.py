"""A table with its caption and its raw figures, as Markdown, LaTeX and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate

from derl.evaluate.scores import Metrics
from derl.report.tables import COLUMNS, Table, markdown
from derl.study.judge import Statistics

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
        name: of its files.
        table: text, cell by cell.
        caption: what was run on which data, under which protocol.
        note: on the rows that the paper prints; it stands below the table on the terminal too.
        data: the raw figures, a dict a row of the CSV file.
        protocol: by which it is read, where that is not the report's.
        is_long: too long for the terminal; it is in the files.
    """

    name: str
    table: Table
    caption: str = ""
    note: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    protocol: str | None = None
    is_long: bool = False

    def add(self, label: str, statistics: Statistics | Metrics | None, *more: str, note: str = "") -> None:
        """Append a row of sentiment metrics: of several seeds, of a constant, or missing."""
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
        """Append raw figures, one a seed."""
        known = [value for value in values if math.isfinite(value)]
        mean = sum(known) / len(known) if len(known) == len(values) and known else math.nan
        deviation = (
            math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else math.nan
        )
        self.data.append(
            {
                "row": label,
                "figure": what,
                "note": note,
                "mean": mean,
                "deviation": deviation,
                "seeds": " ".join(repr(value) for value in values),
            }
        )

    def markdown(self) -> str:
        return f"{markdown(self.table)}\n\n{self.caption}\n"

    def latex(self) -> str:
        """A table environment; needs the package booktabs."""
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
    """An empty sheet with the columns of the sentiment metrics."""
    caption = "Acc-2 and F1: negative against non-negative / negative against positive."
    return Sheet(name, Table(title, [first, *COLUMNS, *more]), caption)


def metric_cell(mean: Metrics, deviation: Mapping[str, float], names: Sequence[str]) -> str:
    """Figures side by side in one cell."""
    return " / ".join(
        number(mean[name], deviation.get(name, math.nan), name) if name in mean else "-" for name in names
    )


def number(mean: float, deviation: float = math.nan, name: str = "mae") -> str:
    """A figure and its deviation: MAE and Corr as numbers, the rest in percent."""
    if not math.isfinite(mean):
        return "-"
    scale, digits = (1, 3) if name in ("mae", "corr") else (100, 2)
    text = f"{scale * mean:.{digits}f}"
    return f"{text} ± {scale * deviation:.{digits}f}" if math.isfinite(deviation) else text


def _escape(text: str) -> str:
    for plain, written in (("\\", r"\textbackslash{}"), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#")):
        text = text.replace(plain, written)
    return text.replace("±", r"$\pm$").replace("−", "$-$")
