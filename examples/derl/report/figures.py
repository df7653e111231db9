"""The figures of a run: metrics over r, router weights over r, and the confusion of the seven classes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derl.evaluate.protocol import BEST_POSSIBLE, CONSTANTS

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # by Okabe and Ito, distinguishable with color blindness
SHADES = ("#0072B2", "#56B4E9")  # DERL's color, and a lighter shade of it
GREY = "#555555"
PANELS = (  # metric names, title, whether in percent, whether higher is better
    (("mae",), "MAE (label units)", False, False),
    (("corr",), "Corr", False, True),
    (("acc2_has0", "acc2_non0"), "Acc-2 (%)", True, True),
    (("f1_has0", "f1_non0"), "F1 (%)", True, True),
    (("acc5",), "Acc-5 (%)", True, True),
    (("acc7",), "Acc-7 (%)", True, True),
)


def robustness(results: dict[str, Any]) -> Figure:
    """Plot every metric over the missing rate, beside the best constant and, if known, the best possible predictor."""
    part, model = results["intra_modal"], results["model"]
    rates, rows = part["rates"], part["rows"]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (names, title, percent, more) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for name, color, marker in zip(names, SHADES, "os", strict=False):
            suffix = f" {name.split('_')[1]}" if len(names) > 1 else ""

            def curve(row: str, name: str = name, percent: bool = percent) -> np.ndarray:
                return np.array([metrics[name] for metrics in rows[row]]) * (100 if percent else 1)

            axes.plot(rates, curve(model), color=color, marker=marker, markersize=4, label=model + suffix)
            constants = [curve(constant) for constant in CONSTANTS]
            if np.isfinite(constants).all():
                best = np.max(constants, axis=0) if more else np.min(constants, axis=0)
                axes.plot(rates, best, color=color, linestyle="--", linewidth=1, label="best constant" + suffix)
            if BEST_POSSIBLE in rows:
                label = BEST_POSSIBLE + suffix
                axes.plot(rates, curve(BEST_POSSIBLE), color=color, linestyle=":", linewidth=1.6, label=label)
        finish(axes, title, "missing rate r")
        axes.legend(fontsize=7, frameon=False)
    pattern = "" if results["pattern"] == "frames" else f", pattern {results['pattern']}"
    figure.suptitle(f"{model} with missing input{pattern}, {_data(results)}", fontsize=11)
    return figure


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
    left.axhline(1 / len(part["fusion"]), color=GREY, linewidth=0.8, linestyle=":", label="equal weights")
    left.set_ylim(bottom=0)
    left.legend(fontsize=7, frameon=False, ncols=2)
    finish(left, "mean router weight", "missing rate r")
    right.plot(part["rates"], part["entropy"], color=GREY, marker="o", markersize=4)
    right.set_ylim(0, 1.02)
    finish(right, "entropy of the weights (1: equal)", "missing rate r")
    figure.suptitle(f"Fusion weights of {results['model']} with missing input, {_data(results)}", fontsize=11)
    return figure


def confusion(results: dict[str, Any]) -> Figure:
    """Plot seven-class confusion matrices; each row is a true class, in shares of its samples."""
    part = results["confusion"]
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    show_confusion(figure, part["rates"], part["matrices"])
    figure.suptitle(f"{results['model']}: seven classes, test samples, {_data(results)}", fontsize=11)
    return figure


def show_confusion(figure: Figure, rates: Sequence[float], matrices: Sequence[Any]) -> None:
    """Draw one panel of counts per missing rate, shaded by the share of the true class."""
    names = [f"{value:+d}" if value else "0" for value in range(-3, 4)]
    panels = figure.subplots(1, len(rates), squeeze=False)[0]
    for axes, rate, counts in zip(panels, rates, matrices, strict=True):
        matrix = np.array(counts)
        shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
        image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for row, column in np.ndindex(*matrix.shape):
            shade = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, matrix[row, column], ha="center", va="center", fontsize=8, color=shade)
        axes.set_xticks(range(7), names)
        axes.set_yticks(range(7), names)
        axes.set(title=f"r = {rate}", xlabel="predicted class")
    panels[0].set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="share of the true class", shrink=0.8)


def figures(results: dict[str, Any]) -> dict[str, Callable[[dict[str, Any]], Figure]]:
    """Return the figures of a run by file name."""
    found = {"robustness.png": robustness, "confusion.png": confusion}
    return found if results["routing"] is None else found | {"routing.png": routing}


def finish(axes: Axes, title: str, label: str) -> None:
    """Set the title and labels, and remove the frame's top and right."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _data(results: dict[str, Any]) -> str:
    name = results["data"]["name"].replace("$", r"\$")
    return f"{name} (not real data)" if results["data"]["synthetic"] else name
