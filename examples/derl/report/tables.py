"""The tables of a run, for the terminal and for Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from derl.data.absence import Missing, describe
from derl.evaluate.conformal import CONFIDENCE_LEVEL, coverage_law
from derl.evaluate.diagnostics import is_collapsed
from derl.evaluate.protocol import BEST_POSSIBLE
from derl.evaluate.sentiment import SENTIMENT
from derl.evaluate.task import Column, Metrics, Task
from derl.evaluate.tasks import reported_task


@dataclass
class Table:
    """Cells as text; a rule is drawn before each row whose index is in ``rules``; ``columns`` hold the metrics."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    rules: set[int] = field(default_factory=set)
    columns: Sequence[Column] = SENTIMENT.columns

    def add(self, name: str, metrics: Metrics) -> None:
        """Append a row of metrics."""
        self.rows.append([name, *(column.cell(metrics) for column in self.columns)])

    def rule(self) -> None:
        """Draw a line before the next row."""
        self.rules.add(len(self.rows))


def intra_modal_table(results: dict[str, Any]) -> Table:
    """Return the table of the model over r, and every predictor's average."""
    part, model = results["intra_modal"], results["model"]
    table = _table(results, f"{model}: {how_missing(results)}", "r")
    for rate, metrics in zip(part["rates"], part["rows"][model], strict=True):
        table.add(f"{rate:.1f}", metrics)
    _add_averages(table, results, part["average"], "average")
    return table


def how_missing(results: dict[str, Any]) -> str:
    """Describe how input went missing in a run's evaluation."""
    if results["pattern"] == "frames":
        return "frames missing in every modality at rate r"
    return f"input missing at rate r, pattern {results['pattern']}"


def inter_modal_table(results: dict[str, Any]) -> Table:
    """Return the table of the model by available modalities, and the averages over incomplete and over all cases."""
    part, model = results["inter_modal"], results["model"]
    table = _table(results, f"{model}: only some modalities available", "available")
    for names, metrics in zip(part["conditions"], part["rows"][model], strict=True):
        table.add("+".join(names), metrics)
    if len(part["conditions"]) > 1:
        table.rule()
        table.add("average, incomplete", part["average_incomplete"][model])
    _add_averages(table, results, part["average_all"], "average, all")
    return table


def intervals_table(results: dict[str, Any]) -> Table:
    """Return the table of how far to trust answers at confidence level 0.9: width and coverage per condition."""
    part = results["intervals"]
    task, level = reported_task(results), part["levels"].index(CONFIDENCE_LEVEL)
    errors = part.get("calibration_error")
    header = ["condition", "classes" if errors else "width", "coverage (%)", "calibrated on", "tested on"]
    table = Table(
        f"{results['model']}: {_intervals(part)} by what is missing",
        [*header, *(["calibration error (%)"] if errors else [])],
    )
    for index, name in enumerate(part["conditions"]):
        width, coverage = part["widths"][index][level], part["coverage"][index][level]
        tested = part["test_samples"][index]
        cells = [task.width(width), f"{100 * coverage:.1f}" if tested else "-"]
        cells += [str(part["calibration_samples"][index]), str(tested)]
        cells += [f"{100 * errors[index]:.1f}" if tested else "-"] if errors else []
        table.rows.append([name, *cells])
    return table


def abstention_table(results: dict[str, Any]) -> Table:
    """Return the table of what is left if the model abstains from answers that are too wide."""
    part, task = results["intervals"]["abstention"], reported_task(results)
    of_classes = task.classify
    header = ["classes, at most" if of_classes else "width, at most", "answered (%)", "coverage (%)"]
    table = Table(
        f"{results['model']}: what is left if it abstains where its {_intervals(results['intervals'])} are larger "
        "(`derl_predict.py --abstain`), over all conditions",
        [*header, "wrong (%)" if of_classes else "MAE"],
    )
    for limit, answered, coverage, error in zip(*part.values(), strict=True):
        shown = f"{100 * error:.1f}" if of_classes else task.width(error)
        cells = [f"{100 * answered:.1f}", f"{100 * coverage:.1f}", shown]
        table.rows.append([f"{limit:.0f}" if of_classes else task.width(limit), *cells])
    return table


def _intervals(part: dict[str, Any]) -> str:
    return f"{100 * CONFIDENCE_LEVEL:.0f} % {'sets of classes' if 'calibration_error' in part else 'intervals'}"


def _table(results: dict[str, Any], title: str, first: str) -> Table:
    columns = reported_task(results).columns
    return Table(title, [first, *(column.title for column in columns)], columns=columns)


def _add_averages(table: Table, results: dict[str, Any], averages: dict[str, Metrics], label: str) -> None:
    table.rule()
    table.add(label, averages[results["model"]])
    table.rule()
    for name in (*results["constants"], BEST_POSSIBLE):
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
        for column in reported_task(results).compared:
            (metric,), sign = column.metrics, -1 if column.higher_is_better else 1
            worse = [
                label
                for index, label in enumerate(labels)
                if sign * rows[results["model"]][index][metric]
                >= min(sign * rows[constant][index][metric] for constant in results["constants"])
            ]
            if worse:
                lines.append(f"No better than the best constant prediction ({column.title}): {', '.join(worse)}.")
    collapsed = [
        f"{name} ({_sameness(diagnosis)})"
        for name, diagnosis in results["diagnostics"].items()
        if is_collapsed(diagnosis)
    ]
    if collapsed:
        lines.append(f"Collapsed to nearly the same score for every sample: {'; '.join(collapsed)}.")
    if low := _undercovered(results["intervals"]):
        lines.append(
            f"{_intervals(results['intervals'])} hold less often than chance explains, since the test split "
            f"differs from the validation split: {', '.join(low)}."
        )
    return lines


def _sameness(diagnosis: Mapping[str, Any]) -> str:
    parts = []
    if "commonest_share" in diagnosis:
        answer = diagnosis["commonest_class"]
        shown = answer if isinstance(answer, str) else f"{answer:+.0f}"
        parts.append(f"{100 * diagnosis['commonest_share']:.0f} % in class {shown}")
    if "spread" in diagnosis:
        parts.append(f"standard deviation {diagnosis['spread']:.2f} of the labels'")
    return ", ".join(parts)


def _undercovered(part: dict[str, Any]) -> list[str]:
    """Return the conditions whose coverage would be as low for one of a thousand exchangeable test splits."""
    level, low = part["levels"].index(CONFIDENCE_LEVEL), []
    for index, name in enumerate(part["conditions"]):
        count, tested = part["calibration_samples"][index], part["test_samples"][index]
        coverage = part["coverage"][index][level]
        if tested and coverage_law(count, tested, CONFIDENCE_LEVEL).cdf(round(coverage * tested)) < 0.001:
            low.append(f"{name} ({100 * coverage:.0f} %)")
    return low


def notes(results: dict[str, Any]) -> list[str]:
    """Explain the tables."""
    checkpoint, task = results["checkpoint"], reported_task(results)
    lines = [
        task.note,
        f"Checkpoint: epoch {checkpoint['epoch']:.0f}, selected by {checkpoint['criterion']}"
        + (f" ({checkpoint['value']:{task.criterion}})." if checkpoint["value"] is not None else "."),
    ]
    lines.append(_intervals_note(results["intervals"], task))
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
        how = "from erased input, as in the paper" if erased else f"by {task.prior}"
        lines.append(f"Test samples of which nothing is left, answered {how}: {counts}.")
    if BEST_POSSIBLE in results["intra_modal"]["average"]:
        lines.append(
            "Best possible: a predictor that knows how the data was generated and how often each class occurs in the "
            "test split. For each metric it makes the decision that is best for that metric."
        )
    return lines


def _intervals_note(part: dict[str, Any], task: Task) -> str:
    level = part["levels"].index(CONFIDENCE_LEVEL)
    widths = {name: row[level] for name, row in zip(part["conditions"], part["widths"], strict=True)}
    unit = "classes" if "calibration_error" in part else "wide"
    narrowest, widest = min(widths, key=widths.get), max(widths, key=widths.get)
    shares = [100 * row[level] for row in part["coverage"] if math.isfinite(row[level])]
    return (
        f"{_intervals(part)}, calibrated on validation: {task.width(widths[narrowest])} {unit} ({narrowest}) to "
        f"{task.width(widths[widest])} ({widest}); they hold for {min(shares):.0f} to {max(shares):.0f} % of the test "
        "samples."
    )


def headline(results: dict[str, Any]) -> str:
    """Name the model, the data and the seed."""
    data = results["data"]
    sizes = data["sizes"]
    text = (
        f"{results['model']} on {data['name']} ({', '.join(data['modalities'])}; {sizes['train']} training, "
        f"{sizes['valid']} validation, {sizes['test']} test samples), seed {results['seed']}"
    )
    if data["synthetic"]:
        text += ". The data is SYNTHETIC: these figures are not about real sentiment"
    return text + "."


def origin(results: dict[str, Any]) -> list[str]:
    """Say how results were made: the command, the machine and the versions."""
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return [f"command: `{results['command']}`", f"machine: {results['machine']}", f"versions: {versions}"]


def bullets(lines: Sequence[str]) -> str:
    """Format lines as a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def markdown(table: Table) -> str:
    """Format a table as GitHub Markdown."""
    lines = [f"### {table.title}", "", _line(table.header), _line(["---"] + ["---:"] * (len(table.header) - 1))]
    return "\n".join([*lines, *(_line(row) for row in table.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
