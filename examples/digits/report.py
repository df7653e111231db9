"""Print, plot and save the results."""

import json
import os
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from digits.missing import CONDITIONS, RATES
from digits.views import SHAPES
from machine import processor

Accuracies = dict[str, list[dict[str, float]]]  # model -> per seed: condition -> accuracy in percent
OURS, LATE, CONCAT = "experts", "late", "concat"
STYLES = {OURS: ("#0072B2", "o", ""), LATE: ("#009E73", "^", ".."), CONCAT: ("#D55E00", "s", "//")}  # by Okabe and Ito


def print_table(accuracies: Accuracies, console: Console) -> None:
    """Print means and standard deviations over seeds; mark the best mean, twice if by more than the spread."""
    table = Table(title="Accuracy on the test split, %", title_justify="left")
    table.add_column("available")
    for name in (*STYLES, f"- {LATE}", f"- {CONCAT}"):
        table.add_column(name, justify="right")
    for condition, cells in rows(accuracies).items():
        table.add_row(condition, *cells)
    console.print(table)
    console.print(f"- {LATE}, - {CONCAT}: {OURS} minus that model, seed by seed")
    spread = "; ** best by more than the standard deviation over seeds of the difference" if _many(accuracies) else ""
    console.print(f"* best mean{spread}")


def rows(accuracies: Accuracies) -> dict[str, list[str]]:
    """Return the cells per condition: every model, and how far ours is ahead of the others, paired by seed."""
    found = {}
    for condition in [*CONDITIONS, "mean"]:
        values = {
            name: [mean(one.values()) if condition == "mean" else one[condition] for one in seeds]
            for name, seeds in accuracies.items()
        }
        first, second = sorted(STYLES, key=lambda name: -mean(values[name]))[:2]
        lead = _minus(values[first], values[second])
        marks = dict.fromkeys(STYLES, "") | {first: "*" * (mean(lead) > 0)}
        if len(lead) > 1 and mean(lead) > stdev(lead):
            marks[first] = "**"
        leads = [_minus(values[OURS], values[name]) for name in (LATE, CONCAT)]
        found[condition] = [f"{_spread(values[name])}{marks[name]:<2}" for name in STYLES]
        found[condition] += [_spread(lead, "+") for lead in leads]
    return found


def _minus(first: list[float], second: list[float]) -> list[float]:
    return [one - other for one, other in zip(first, second, strict=True)]


def _spread(figures: list[float], sign: str = "") -> str:
    """Return the mean, and the standard deviation over seeds if there are several."""
    return f"{mean(figures):{sign}.1f}" + (f"±{stdev(figures):.1f}" if len(figures) > 1 else "")


def draw(accuracies: Accuracies) -> Figure:
    """Plot accuracy over the share of dropped frames, and by available views."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    over_rate = {0.0: "complete"} | {rate: f"frames {rate}" for rate in RATES}
    by_view = ["complete", *(f"no {name}" for name in SHAPES), *(f"only {name}" for name in SHAPES)]
    for offset, (name, (color, marker, hatch)) in zip((-0.27, 0, 0.27), STYLES.items(), strict=True):
        middle, spread = _statistics(accuracies[name], list(over_rate.values()))
        left.errorbar(list(over_rate), middle, spread, color=color, marker=marker, capsize=3, label=name)
        middle, spread = _statistics(accuracies[name], by_view)
        places = [place + offset for place in range(len(by_view))]
        right.bar(places, middle, 0.27, yerr=spread, capsize=3, color=color, hatch=hatch, edgecolor="white", label=name)
    bottom = _bottom(accuracies, by_view)
    left.axhline(10, color="#555555", linestyle=":", label="chance")
    left.set(xlabel="share of frames missing in every view", ylabel="accuracy (%)", ylim=(0, 101))
    right.set(xlabel="views that are there", ylim=(bottom, 101))
    right.set_ylabel(f"accuracy (%), axis cut at {bottom}" if bottom else "accuracy (%)")
    right.set_xticks(range(len(by_view)), [name.replace(" ", "\n") for name in by_view])
    for axes in (left, right):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, loc=(0.05, 0.2))
    return figure


def write(path: Path, accuracies: Accuracies, facts: dict[str, Any]) -> None:
    """Write per-seed results as JSON, with their provenance."""
    machine = {"processor": processor(), "cores": os.cpu_count(), "torch": torch.__version__}
    path.write_text(json.dumps(facts | {"machine": machine, "accuracy": accuracies}, indent=1) + "\n")


def _statistics(seeds: list[dict[str, float]], conditions: list[str]) -> tuple[list[float], list[float] | None]:
    columns = [[one[condition] for one in seeds] for condition in conditions]
    return [mean(column) for column in columns], [stdev(column) for column in columns] if len(seeds) > 1 else None


def _bottom(accuracies: Accuracies, conditions: list[str]) -> int:
    """Return where the axis of the bars starts: at 80, or at the multiple of ten below the lowest figure."""
    lowest = min(one[condition] for seeds in accuracies.values() for one in seeds for condition in conditions)
    return min(80, 10 * int(lowest // 10))


def _many(accuracies: Accuracies) -> bool:
    return len(accuracies[OURS]) > 1
