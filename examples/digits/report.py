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
OURS, BASELINE = "experts", "concat"
STYLES = {OURS: ("#0072B2", "o", ""), BASELINE: ("#D55E00", "s", "//")}  # by Okabe and Ito


def print_table(accuracies: Accuracies, console: Console) -> None:
    """Print means and standard deviations over seeds; mark the better mean, twice if by more than the spread."""
    table = Table(title="Accuracy on the test split, %", title_justify="left")
    table.add_column("available")
    for name in (OURS, BASELINE, f"{OURS} - {BASELINE}"):
        table.add_column(name, justify="right")
    for condition, cells in rows(accuracies).items():
        table.add_row(condition, *cells)
    console.print(table)
    console.print(
        "* better mean"
        + ("; ** better by more than the larger standard deviation over seeds" if _many(accuracies) else "")
    )


def rows(accuracies: Accuracies) -> dict[str, list[str]]:
    """Return the cells per condition: both models, and the difference of their means."""
    found = {}
    for condition in [*CONDITIONS, "mean"]:
        values = {
            name: [mean(one.values()) if condition == "mean" else one[condition] for one in seeds]
            for name, seeds in accuracies.items()
        }
        spread = {name: stdev(figures) if _many(accuracies) else None for name, figures in values.items()}
        lead = mean(values[OURS]) - mean(values[BASELINE])
        mark = "**" if _many(accuracies) and abs(lead) > max(spread.values()) else "*"
        marks = {OURS: (mark if lead > 0 else ""), BASELINE: mark * (lead < 0)}
        found[condition] = [
            f"{mean(values[name]):.1f}" + (f" ± {spread[name]:.1f}" if _many(accuracies) else "") + f"{marks[name]:<3}"
            for name in (OURS, BASELINE)
        ] + [f"{lead:+.1f}"]
    return found


def draw(accuracies: Accuracies) -> Figure:
    """Plot accuracy over the share of dropped frames, and by available views."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    over_rate = {0.0: "complete"} | {rate: f"frames {rate}" for rate in RATES}
    by_view = ["complete", *(f"no {name}" for name in SHAPES), *(f"only {name}" for name in SHAPES)]
    for offset, (name, (color, marker, hatch)) in zip((-0.2, 0.2), STYLES.items(), strict=True):
        middle, spread = _statistics(accuracies[name], list(over_rate.values()))
        left.errorbar(list(over_rate), middle, spread, color=color, marker=marker, capsize=3, label=name)
        middle, spread = _statistics(accuracies[name], by_view)
        places = [place + offset for place in range(len(by_view))]
        right.bar(places, middle, 0.4, yerr=spread, capsize=3, color=color, hatch=hatch, edgecolor="white", label=name)
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
