"""Figures of a run: metrics over r, router weights over r, and the confusion of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derl.evaluate.protocol import BEST_POSSIBLE
from derl.evaluate.task import Column
from derl.evaluate.tasks import reported_task

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # by Okabe and Ito, distinguishable with color blindness
SHADES = ("#0072B2", "#56B4E9")  # DERL's color, and a lighter shade of it
GRAY = "#555555"
LONGEST_NAME = 14  # of a class beside the confusion
MOST_FIGURES = 20  # classes, above which the confusion has colors only


def robustness(results: dict[str, Any]) -> Figure:
    """Plot every metric over the missing rate, beside the best constant and, if known, the best possible predictor."""
    part, model = results["intra_modal"], results["model"]
    rates, rows = part["rates"], part["rows"]
    columns = reported_task(results).columns
    across = 2 if len(columns) == 4 else 3
    down = -(-len(columns) // across)
    figure = Figure(figsize=(10, 3 * down), layout="constrained")
    for axes, column in zip(figure.subplots(down, across).flat, columns, strict=True):
        for name, color, marker in zip(column.metrics, SHADES, "os", strict=False):
            suffix = f" {name.split('_')[1]}" if len(column.metrics) > 1 else ""

            def curve(row: str, name: str = name, column: Column = column) -> np.ndarray:
                return factor(column) * np.array([metrics[name] for metrics in rows[row]])

            axes.plot(rates, curve(model), color=color, marker=marker, markersize=4, label=model + suffix)
            constants = [curve(constant) for constant in results["constants"]]
            if np.isfinite(constants).all():
                best = np.max(constants, axis=0) if column.higher_is_better else np.min(constants, axis=0)
                axes.plot(rates, best, color=color, linestyle="--", linewidth=1, label="best constant" + suffix)
            if BEST_POSSIBLE in rows:
                label = BEST_POSSIBLE + suffix
                axes.plot(rates, curve(BEST_POSSIBLE), color=color, linestyle=":", linewidth=1.6, label=label)
        finish(axes, panel_title(column), "missing rate r")
        axes.legend(fontsize=7, frameon=False)
    pattern = "" if results["pattern"] == "frames" else f", pattern {results['pattern']}"
    figure.suptitle(f"{model} with missing input{pattern}, {name_data(results)}", fontsize=11)
    return figure


def factor(column: Column) -> int:
    """Return what figures of a column are multiplied by: 100 for percent."""
    return 100 if column.form == "percent" else 1


def panel_title(column: Column) -> str:
    """Return a panel's title with its unit."""
    return f"{column.title} ({column.unit})" if column.unit else column.title


def routing(results: dict[str, Any]) -> Figure:
    """Plot the mean fusion weight of each view over the missing rate, and the entropy of the weights."""
    part = results["routing"]
    modalities = results["data"]["modalities"]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    for view, weights in part["fusion"].items():
        modality, kind = view.rsplit(" ", 1)
        style: dict[str, Any] = (
            {"linestyle": "-", "marker": "o"} if kind == "private" else {"linestyle": "--", "marker": "^"}
        )
        color = COLORS[modalities.index(modality) % len(COLORS)]
        left.plot(part["rates"], weights, color=color, markersize=4, label=view, **style)
    left.axhline(1 / len(part["fusion"]), color=GRAY, linewidth=0.8, linestyle=":", label="equal weights")
    left.set_ylim(bottom=0)
    left.legend(fontsize=7, frameon=False, ncols=2)
    finish(left, "mean router weight", "missing rate r")
    right.plot(part["rates"], part["entropy"], color=GRAY, marker="o", markersize=4)
    right.set_ylim(0, 1.02)
    finish(right, "entropy of the weights (1: equal)", "missing rate r")
    figure.suptitle(f"Fusion weights of {results['model']} with missing input, {name_data(results)}", fontsize=11)
    return figure


def confusion(results: dict[str, Any]) -> Figure:
    """Plot confusion matrices of the classes; each row is a true class, in shares of its samples."""
    part, classes = results["confusion"], results["classes"]
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    show_confusion(figure, part["rates"], part["matrices"], classes)
    figure.suptitle(f"{results['model']}: {len(classes)} classes, test samples, {name_data(results)}", fontsize=11)
    return figure


def show_confusion(figure: Figure, rates: Sequence[float], matrices: Sequence[Any], classes: Sequence[str]) -> None:
    """Draw one panel of counts per missing rate, shaded by the share of the true class."""
    names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}." for name in classes]
    upright = max(map(len, names)) > 4
    figures = len(classes) <= MOST_FIGURES
    panels = figure.subplots(1, len(rates), squeeze=False)[0]
    for axes, rate, counts in zip(panels, rates, matrices, strict=True):
        matrix = np.array(counts)
        shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for row, column in np.ndindex(*matrix.shape) if figures else ():
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8, color=shade)
        axes.set_xticks(range(len(names)), names, rotation=90 if upright else 0)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelsize=8)
        axes.set(title=f"r = {rate}", xlabel="predicted class")
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="share of the true class", shrink=0.8)


def finish(axes: Axes, title: str, label: str) -> None:
    """Set the title and labels, and remove the frame's top and right."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def name_data(results: dict[str, Any]) -> str:
    """Return the name of the data for a title."""
    name = results["data"]["name"].replace("$", r"\$")
    return f"{name} (not real data)" if results["data"]["synthetic"] else name
