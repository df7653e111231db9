"""Trained on one missing pattern, tested on another."""

from collections.abc import Sequence

import numpy as np

from derl.evaluate.conditions import PATTERN_RATES
from derl.report.tables import BEST_POSSIBLE, CONSTANTS, Table
from derl.study.averages import deviation
from derl.study.cell import Variant
from derl.study.judge import Statistics, figures
from derl.study.sheet import MISSING, Sheet, number
from derl.study.variants import trained_on
from derl.study.view import View
from modx.missing import PATTERNS


def patterns(view: View) -> list[Sheet]:
    """Trained on each pattern, tested on all."""
    sheets = []
    for metric, title, sign in (("mae", "MAE", 1), ("corr", "Corr", -1)):
        table = Table(f"Trained on one pattern, tested on another: {title}", ["trained on", *PATTERNS])
        sheet = Sheet(f"patterns_{metric}", table)
        best = best_pattern_row(view, metric)
        for label, variant in trained_on().items():
            row = pattern_row(view, variant, metric)
            cells = [MISSING] * len(PATTERNS)
            if row is not None:
                cells = [number(float(np.mean(v)), deviation(v), metric) for v in row]
                for index, (pattern, values) in enumerate(zip(PATTERNS, row, strict=True)):
                    sheet.add_data(label, metric, values, f"tested on {pattern}")
                    if best is not None:
                        away = [sign * (ours - theirs) for ours, theirs in zip(values, best[index], strict=True)]
                        sheet.add_data(label, f"{metric}, distance to the best possible", away, f"tested on {pattern}")
                        cells[index] += f" ({np.mean(away):.3f})"
            table.rows.append([label, *cells])
        table.rule()
        record = view.any_record()
        if record is not None and metric == "mae":
            for label in CONSTANTS:
                table.rows.append([label, *[number(view.constants(record)[label][metric])] * len(PATTERNS)])
        if best is not None:
            table.rows.append([BEST_POSSIBLE, *(number(float(np.mean(v)), deviation(v), metric) for v in best)])
        sheet.caption = (
            "Averaged over r = 0.1, 0.3, 0.5, 0.7, 0.9 of the tested pattern, at the chosen epoch. The pattern "
            "modalities keeps one of every sample, so that it loses less than r, and is easier."
        )
        if best is not None:
            sheet.caption += " In brackets: the distance to the best possible, by which columns compare."
        sheets.append(sheet)
    return sheets


def pattern_row(view: View, variant: Variant, metric: str) -> list[list[float]] | None:
    """A metric under each pattern, averaged over its rates, one value a seed."""
    found = []
    for pattern in PATTERNS:
        if pattern == "frames":
            scores = chosen_rows(view, variant, [f"r={rate}" for rate in PATTERN_RATES])
        else:
            scores = view.pattern_rows(variant, [f"{pattern} r={rate}" for rate in PATTERN_RATES])
        if scores is None:
            return None
        found.append([float(np.mean([row.seeds[seed][metric] for row in scores])) for seed in range(view.seeds)])
    return found


def chosen_rows(view: View, variant: Variant, conditions: Sequence[str]) -> list[Statistics] | None:
    """Figures of the chosen epoch, whatever the protocol."""
    records = view.records(variant)
    if records is None:
        return None
    seeds = [figures(record, conditions, "valid") for record in records]
    return [Statistics([seed[index] for seed in seeds]) for index in range(len(conditions))]


def best_pattern_row(view: View, metric: str) -> list[list[float]] | None:
    """The same of the best possible predictor."""
    found = []
    for pattern in PATTERNS:
        names = [f"r={rate}" if pattern == "frames" else f"{pattern} r={rate}" for rate in PATTERN_RATES]
        rows = view.best(names)
        if rows is None:
            return None
        found.append([float(np.mean([row.seeds[seed][metric] for row in rows])) for seed in range(view.seeds)])
    return found
