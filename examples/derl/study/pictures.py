"""Figures of a study: the paper's, and those of the question it leaves open."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from derl.evaluate.conditions import RATES
from derl.evaluate.protocol import BEST_POSSIBLE, CONFUSION_RATES, confusion
from derl.evaluate.sentiment import CONSTANTS, SENTIMENT
from derl.report.figures import COLORS, GRAY, factor, finish, panel_title, show_confusion
from derl.study.averages import R
from derl.study.cells import DERL, METHODS, PAPER, ROBUST, ROBUST_MIXTURE, all_patterns, experts, trained_on
from derl.study.robustness import best_pattern_row, pattern_row
from derl.study.statistics import chosen_epoch
from derl.study.view import View
from modx.missing import PATTERNS

STYLES = dict(zip(METHODS, cycle(zip(COLORS, "os^D", ("-", "--", "-.", (0, (1, 1))), strict=True)), strict=False))


def figure2(view: View) -> Figure | None:
    """Plot every metric over the missing rate: means over seeds, with bands of one standard deviation.

    Systems that ``--models`` adds are gray lines, labeled at their ends.
    """
    rows = {label: view.rows(variant, R) for label, variant in view.methods.items()}
    best, record = view.best(R), view.any_record()
    if record is None or all(row is None for row in rows.values()):
        return None
    constants = view.constants(record)
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    for axes, column in zip(figure.subplots(2, 3).flat, SENTIMENT.columns, strict=True):
        metric, times = column.metrics[-1], factor(column)
        for label, row in rows.items():
            if row is None:
                continue
            mean = times * np.array([statistics.mean[metric] for statistics in row])
            if label not in STYLES:
                axes.plot(RATES, mean, color=GRAY, linewidth=0.8)
                axes.annotate(label.removesuffix(" recipe"), (RATES[-1], mean[-1]), color=GRAY, fontsize=5)
                continue
            color, marker, line = STYLES[label]
            spread = times * np.array([statistics.deviation[metric] for statistics in row])
            axes.plot(RATES, mean, color=color, marker=marker, markersize=4, linestyle=line, label=label)
            if np.isfinite(spread).all():
                axes.fill_between(RATES, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
        if best is not None:
            mean = times * np.array([statistics.mean[metric] for statistics in best])
            axes.plot(RATES, mean, color="black", linewidth=1.2, label=BEST_POSSIBLE)
        values = [times * constants[name][metric] for name in CONSTANTS]
        if np.isfinite(values).all():
            axes.axhline(
                max(values) if column.higher_is_better else min(values),
                color=GRAY,
                linewidth=1,
                linestyle=":",
                label="best constant",
            )
        finish(axes, panel_title(column) + (", non0" if len(column.metrics) > 1 else ""), "missing rate r")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def figure3(view: View, preset: str) -> Figure | None:
    """Plot MAE and F1 of private x shared experts, averaged over r and seeds."""
    grid = experts(preset)
    found = {pair: view.average(variant, R) for pair, variant in grid.items()}
    if all(statistics is None for statistics in found.values()):
        return None
    privates, shareds = sorted({pair[0] for pair in grid}), sorted({pair[1] for pair in grid})
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (metric, title, scale, digits, better) in zip(
        figure.subplots(1, 2),
        (("mae", "MAE (label units)", 1, 3, "lower"), ("f1_non0", "F1 non0 (%)", 100, 1, "higher")),
        strict=True,
    ):
        values = [
            [None if (cell := found[p, s]) is None else scale * cell.mean[metric] for s in shareds] for p in privates
        ]
        heat_map(axes, values, digits, figure, f"{title}, {better} is better", reverse=better == "lower")
        axes.set_xticks(range(len(shareds)), shareds)
        axes.set_yticks(range(len(privates)), privates)
        axes.set(xlabel="shared experts S", ylabel="private experts P")
    return figure


def figure4(view: View) -> Figure | None:
    """Plot the confusion of the seven classes, summed over seeds."""
    records = view.records(PAPER)
    if records is None:
        return None
    labels = torch.from_numpy(records[0].arrays["labels_test"])
    matrices = []
    for rate in CONFUSION_RATES:
        index = records[0].facts["conditions"].index(f"r={rate}")
        scores = [torch.from_numpy(record.arrays["test"][chosen_epoch(record)][index]) for record in records]
        matrices.append(sum(np.array(confusion(one, labels, SENTIMENT)) for one in scores))
    figure = Figure(figsize=(12, 4), layout="constrained")
    show_confusion(figure, CONFUSION_RATES, matrices, SENTIMENT.classes)
    return figure


def pattern_matrix(view: View) -> Figure | None:
    """Plot MAE and Corr by pattern of training and pattern of testing, averaged over seeds."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    names = {ROBUST_MIXTURE: "robust recipe's four", all_patterns(): f"all {len(PATTERNS)}"}
    empty = True
    for axes, (metric, title, better) in zip(
        figure.subplots(1, 2), (("mae", "MAE (label units)", "lower"), ("corr", "Corr", "higher")), strict=True
    ):
        rows: dict[str, Sequence[float | None]] = {}
        for label, variant in trained_on().items():
            row = pattern_row(view, variant, metric)
            empty = empty and row is None
            name = names.get(label, label)
            rows[name] = [None] * len(PATTERNS) if row is None else [float(np.mean(values)) for values in row]
        found = best_pattern_row(view, metric)
        best = None if found is None else [float(np.mean(values)) for values in found]
        if best is not None:
            rows[BEST_POSSIBLE] = best
        values = list(rows.values())
        heat_map(axes, values, 3, figure, f"{title}, {better} is better", better == "lower", best)
        axes.set_xticks(range(len(PATTERNS)), list(PATTERNS), rotation=30, ha="right")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlabel="tested on", ylabel="trained on")
    return None if empty else figure


def recipes(view: View) -> Figure | None:
    """Plot the correlation with the labels by available modalities, beside the best possible predictor's."""
    record = view.any_record()
    rows = {label: METHODS[label] for label in (DERL, ROBUST)}
    if record is None or all(view.records(variant) is None for variant in rows.values()):
        return None
    conditions = {name: name for name in record.facts["conditions"] if name not in R} | {"complete": R[0]}
    names = list(conditions.values())
    places = np.arange(len(names))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    best = view.best(names)
    if best is not None:
        reach = np.array([statistics.mean["corr"] for statistics in best])
        axes.bar(places, reach, width=0.8, color="#DDDDDD", edgecolor=GRAY, label=BEST_POSSIBLE)
        axes.hlines(0.8 * reach, places - 0.4, places + 0.4, color=GRAY, linestyle="--", linewidth=1, label="0.8 of it")
    for offset, (label, variant) in zip((-0.15, 0.15), rows.items(), strict=True):
        found = view.rows(variant, names)
        if found is not None:
            mean, spread = (
                np.array([getattr(statistics, part)["corr"] for statistics in found]) for part in ("mean", "deviation")
            )
            color, marker, _ = STYLES[label]
            axes.errorbar(places + offset, mean, np.nan_to_num(spread), fmt=marker, color=color, capsize=3, label=label)
    axes.axhline(0, color="black", linewidth=0.8)
    finish(axes, "correlation with the truth", "available modalities")
    axes.set_xticks(places, list(conditions))
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def heat_map(
    axes: Axes,
    cells: Sequence[Sequence[float | None]],
    digits: int,
    figure: Figure,
    title: str,
    reverse: bool,
    reference: Sequence[float] | None = None,
) -> None:
    """Draw a heat map with its values. Dark is good; white is missing or undefined, e.g. the correlation of a constant.

    With a ``reference`` per column, colors show the distance to it.
    """
    values = np.array([[np.nan if cell is None else cell for cell in row] for row in cells])
    shades = values if reference is None else values - np.array(reference)
    low, high = (np.nanmin(shades), np.nanmax(shades)) if np.isfinite(shades).any() else (0.0, 1.0)
    colors = "cividis" if reverse else "cividis_r"
    image = axes.imshow(np.ma.masked_invalid(shades), cmap=colors, aspect="auto", vmin=low, vmax=high)
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        if not np.isfinite(value):
            text = "missing" if cells[row][column] is None else "-"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=GRAY)
            continue
        share = (shades[row, column] - low) / (high - low) if high > low else 0.5
        dark = share < 0.5 if reverse else share > 0.5
        color = "white" if dark else "black"
        axes.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_title(title, fontsize=10)
    label = "" if reference is None else "distance to the best possible"
    figure.colorbar(image, ax=axes, shrink=0.9, label=label)
