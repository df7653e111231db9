"""The picture of reliability: how often intervals hold, and how wide they are, under every condition."""

import math
from typing import Any

from matplotlib.figure import Figure

from derl.evaluate.conformal import CONFIDENCE_LEVEL, coverage_law
from derl.evaluate.tasks import reported_task
from derl.report.figures import COLORS, GRAY, finish, name_data

SHOWN_RATES = {"r=0.0": "-", "r=0.5": "--", "r=0.9": ":"}


def reliability(results: dict[str, Any]) -> Figure:
    """Plot coverage over the confidence level, and the width of each condition's interval."""
    part, modalities = results["intervals"], results["data"]["modalities"]
    of_classes = "calibration_error" in part
    conditions, levels = part["conditions"], part["levels"]
    figure = Figure(figsize=(10, max(3.8, 0.2 * len(conditions) + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.fill_between(levels, *chance(part), color=GRAY, alpha=0.15, linewidth=0, label="95 % by chance")
    left.plot((0, 1), (0, 1), color=GRAY, linewidth=0.8)
    styles = [(name, GRAY, style) for name, style in SHOWN_RATES.items()]
    styles += [(name, COLORS[index % len(COLORS)], "-") for index, name in enumerate(modalities)]
    for name, color, style in styles:
        coverage = part["coverage"][conditions.index(name)]
        left.plot(levels, coverage, color=color, linestyle=style, marker="o", markersize=3, label=name)
    left.legend(fontsize=7, frameon=False)
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    finish(left, f"share of test samples within their {'set' if of_classes else 'interval'}", "confidence level")
    widths = [row[levels.index(CONFIDENCE_LEVEL)] for row in part["widths"]]
    task, finite = reported_task(results), [width if math.isfinite(width) else 0.0 for width in widths]
    right.barh(conditions, finite, color=COLORS[0], height=0.6)
    for row, width in enumerate(widths):
        right.text(finite[row], row, f" {task.width(width)}", va="center", fontsize=7)
    right.set_xlim(0, 1.15 * max(finite) or 1.0)
    right.invert_yaxis()
    what = "size of sets" if of_classes else "width"
    finish(
        right,
        f"{what} at confidence level {CONFIDENCE_LEVEL}",
        "mean number of classes" if of_classes else "label units",
    )
    figure.suptitle(f"How far to trust {results['model']}, {name_data(results)}", fontsize=11)
    return figure


def chance(part: dict[str, Any], share: float = 0.95) -> tuple[list[float], list[float]]:
    """Return the bounds, per level, of this share of coverages if calibration and test samples are exchangeable.

    If conditions differ in their numbers of samples, the smallest are taken.
    """
    count, tested = min(part["calibration_samples"]), max(min(part["test_samples"]), 1)
    laws = [coverage_law(count, tested, level) for level in part["levels"]]
    low, high = ([law.ppf(tail) / tested for law in laws] for tail in ((1 - share) / 2, (1 + share) / 2))
    return low, high
