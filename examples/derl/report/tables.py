"""The tables of a run, for the terminal and for Markdown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from derl.data.absence import Missing, describe
from derl.evaluate.diagnostics import is_collapsed
from derl.evaluate.protocol import BEST_POSSIBLE, CONSTANTS
from derl.evaluate.scores import Metrics

COLUMNS = ("MAE", "Corr", "Acc-2", "F1", "Acc-5", "Acc-7")


@dataclass
class Table:
    """Cells as text; a rule is drawn before each row whose index is in ``rules``."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    rules: set[int] = field(default_factory=set)

    def add(self, name: str, metrics: Metrics) -> None:
        """Append a row of metrics."""
        self.rows.append([name, *format_metrics(metrics)])

    def rule(self) -> None:
        """Draw a line before the next row."""
        self.rules.add(len(self.rows))


def format_metrics(metrics: Metrics) -> list[str]:
    """Return one cell per column: MAE and Corr as numbers, the rest in percent, Acc-2 and F1 as has0/non0 pairs."""
    percent = {name: f"{100 * value:.2f}" if math.isfinite(value) else "-" for name, value in metrics.items()}
    return [
        f"{metrics['mae']:.3f}",
        f"{metrics['corr']:.3f}" if math.isfinite(metrics["corr"]) else "-",
        f"{percent['acc2_has0']}/{percent['acc2_non0']}",
        f"{percent['f1_has0']}/{percent['f1_non0']}",
        percent["acc5"],
        percent["acc7"],
    ]


def intra_modal_table(results: dict[str, Any]) -> Table:
    """Return the table of the model over r, and every predictor's average."""
    part, model = results["intra_modal"], results["model"]
    table = Table(f"{model}: {how_missing(results)}", ["r", *COLUMNS])
    for rate, metrics in zip(part["rates"], part["rows"][model], strict=True):
        table.add(f"{rate:.1f}", metrics)
    _add_averages(table, part["average"], model, "average")
    return table


def how_missing(results: dict[str, Any]) -> str:
    """Describe how input went missing in a run's evaluation."""
    if results["pattern"] == "frames":
        return "frames missing in every modality at rate r"
    return f"input missing at rate r by the pattern {results['pattern']}"


def inter_modal_table(results: dict[str, Any]) -> Table:
    """Return the table of the model by available modalities, and the averages over incomplete and over all cases."""
    part, model = results["inter_modal"], results["model"]
    table = Table(f"{model}: only some modalities available", ["available", *COLUMNS])
    for names, metrics in zip(part["conditions"], part["rows"][model], strict=True):
        table.add("+".join(names), metrics)
    if len(part["conditions"]) > 1:
        table.rule()
        table.add("average, incomplete", part["average_incomplete"][model])
    _add_averages(table, part["average_all"], model, "average, all")
    return table


def _add_averages(table: Table, averages: dict[str, Metrics], model: str, label: str) -> None:
    table.rule()
    table.add(label, averages[model])
    table.rule()
    for name in (*CONSTANTS, BEST_POSSIBLE):
        if name in averages:
            table.add(name, averages[name])


def warnings(results: dict[str, Any]) -> list[str]:
    """Warn where the model does no better than the best constant, or has collapsed."""
    lines = []
    for key, labels in (
        ("intra_modal", [f"r = {rate:.1f}" for rate in results["intra_modal"]["rates"]]),
        ("inter_modal", ["+".join(names) for names in results["inter_modal"]["conditions"]]),
    ):
        rows = results[key]["rows"]
        for metric, name, sign in (("mae", "MAE", 1), ("acc2_has0", "Acc-2 has0", -1), ("acc2_non0", "Acc-2 non0", -1)):
            worse = [
                label
                for index, label in enumerate(labels)
                if sign * rows[results["model"]][index][metric]
                >= min(sign * rows[constant][index][metric] for constant in CONSTANTS)
            ]
            if worse:
                lines.append(f"No better than a constant in {name}: {', '.join(worse)}.")
    collapsed = [
        f"{name} ({100 * diagnosis['commonest_share']:.0f} % answer class {diagnosis['commonest_class']:+.0f}, "
        f"spread {diagnosis['spread']:.2f} of the labels')"
        for name, diagnosis in results["diagnostics"].items()
        if is_collapsed(diagnosis)
    ]
    if collapsed:
        lines.append(f"Collapsed, the answers are nearly all the same: {'; '.join(collapsed)}.")
    return lines


def notes(results: dict[str, Any]) -> list[str]:
    """Explain the tables."""
    checkpoint = results["checkpoint"]
    lines = [
        "Acc-2 and F1: negative against non-negative / negative against positive. "
        "Corr is not defined (-) for constant predictions.",
        f"Checkpoint: epoch {checkpoint['epoch']:.0f}, chosen by {checkpoint['criterion']}"
        + (f", {checkpoint['value']:.3f}." if checkpoint["value"] is not None else "."),
    ]
    before = [
        line
        for name, counts in results["missing_before"].items()
        if (line := describe(name, Missing(**counts), results["partly_missing"]))
    ]
    if before:
        lines.append(
            f"Missing from the test data before anything was dropped: {'; '.join(before)}. Rates count what is there."
        )
    if results["nothing_left"]:
        counts = ", ".join(f"{name}: {count}" for name, count in results["nothing_left"].items())
        erased = results["dropped_modality"] == "erased"
        how = "from erased input, as in the paper" if erased else "by the training mean"
        lines.append(f"Test samples of which nothing is left, answered {how}: {counts}.")
    if BEST_POSSIBLE in results["intra_modal"]["average"]:
        lines.append(
            "Best possible: knows how the data was made and how often each class occurs in the test split; each figure "
            "with the decision that suits it."
        )
    return lines


def headline(results: dict[str, Any]) -> str:
    """Name the model, the data and the seed."""
    data = results["data"]
    sizes = data["sizes"]
    text = (
        f"{results['model']} on {data['name']} ({', '.join(data['modalities'])}; {sizes['train']} training, "
        f"{sizes['valid']} validation, {sizes['test']} test samples), seed {results['seed']}"
    )
    if data["synthetic"]:
        text += ". The data is SYNTHETIC: these figures say nothing of real sentiment"
    return text + "."


def markdown(table: Table) -> str:
    """Format a table as GitHub Markdown."""
    lines = [f"### {table.title}", "", _line(table.header), _line(["---"] + ["---:"] * (len(table.header) - 1))]
    return "\n".join([*lines, *(_line(row) for row in table.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
