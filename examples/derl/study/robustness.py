"""The question that the paper leaves open: when recipes collapse, and how well training transfers between patterns."""

from collections.abc import Callable, Sequence

import numpy as np

from derl.evaluate.conditions import PATTERN_RATES, RATES
from derl.evaluate.diagnostics import COLLAPSED_SHARE, COLLAPSED_SPREAD, is_collapsed
from derl.evaluate.protocol import BEST_POSSIBLE
from derl.evaluate.sentiment import CONSTANTS
from derl.report.tables import Table
from derl.study.averages import R
from derl.study.cells import DERL, METHODS, ROBUST, Variant, trained_on
from derl.study.sheet import MISSING, Sheet, mean_cell, number
from derl.study.statistics import Statistics, cell_metrics
from derl.study.view import View
from modx.missing import PATTERNS


def recipes(view: View) -> list[Sheet]:
    """Show whether a recipe collapses when modalities are missing, and which views its routers weight."""
    record = view.any_record()
    conditions = [name for name in record.facts["conditions"] if name not in R] if record is not None else []
    shown = {name: name for name in conditions} | ({"complete": R[0]} if conditions else {})
    best = view.best(list(shown.values()))
    header = [
        "method, available",
        "MAE",
        "Corr",
        *([] if best is None else ["Corr / best possible"]),
        "spread",
        "most common class: share",
        "collapsed",
        "fusion entropy",
        "expert entropy",
    ]
    sheet = Sheet("recipes", Table("Collapse by available modalities", header))
    for label in (DERL, ROBUST):
        sheet.table.rule()
        rows = view.rows(METHODS[label], list(shown.values()))
        if rows is None or not shown:
            sheet.table.rows.append([label, *[MISSING] * (len(header) - 1)])
            sheet.data.append({"row": label, "figure": MISSING})
            continue
        for index, (available, condition) in enumerate(shown.items()):
            name, row = f"{label}, {available}", rows[index]
            diagnoses = view.diagnostics(METHODS[label], condition)
            ratio = []
            if best is not None:
                pairs = zip(row.seeds, best[index].seeds, strict=True)
                ratios = [ours["corr"] / theirs["corr"] for ours, theirs in pairs]
                sheet.add_data(name, "corr / best possible", ratios)
                ratio.append(mean_cell(ratios))
            for figure in ("mae", "corr"):
                sheet.add_data(name, figure, [seed[figure] for seed in row.seeds])
            for figure in diagnoses[0]:
                sheet.add_data(name, figure, [diagnosis[figure] for diagnosis in diagnoses])
            entropies = [
                f"{np.mean([diagnosis[part] for diagnosis in diagnoses]):.3f}" if part in diagnoses[0] else "-"
                for part in ("fusion_entropy", "expert_entropy")
            ]
            classes = "; ".join(
                f"{one['commonest_class']:+.0f}: {100 * one['commonest_share']:.0f} %" for one in diagnoses
            )
            sheet.table.rows.append(
                [
                    name,
                    number(row.mean["mae"], row.deviation["mae"]),
                    number(row.mean["corr"], row.deviation["corr"]),
                    *ratio,
                    f"{np.mean([diagnosis['spread'] for diagnosis in diagnoses]):.2f}",
                    classes,
                    f"{sum(map(is_collapsed, diagnoses))} of {len(diagnoses)}",
                    *entropies,
                ]
            )
    if record is not None:
        sheet.table.rule()
        for label in CONSTANTS:
            constant = view.constants(record)[label]
            sheet.table.rows.append(
                [label, number(constant["mae"]), "-", *([] if best is None else [""]), "0.00", *[""] * 4]
            )
            sheet.add_data(label, "mae", [constant["mae"]])
    sheet.caption = (
        "Spread: standard deviation of the scores over that of the labels (0: a constant). Most common "
        "class: the most frequent of the seven predicted classes and its share, per seed. Collapsed: seeds whose "
        f"spread is below {COLLAPSED_SPREAD} or whose most common class has more than {100 * COLLAPSED_SHARE:.0f} %. "
        "Entropy: of the router weights; 1 means equal weights."
    )
    return [sheet, loads(view)]


def loads(view: View) -> Sheet:
    """Show mean router weights by missing rate, for the views in the fusion and for each modality's experts."""
    rates = (0.0, 0.5, 0.9)
    table = Table("Router load: mean weight of each view and expert", ["method, router", *(f"r = {r}" for r in rates)])
    sheet = Sheet("recipes_load", table, "Means over test samples, tokens and seeds.", is_long=True)
    for label in (DERL, ROBUST):
        table.rule()
        records = view.records(METHODS[label])
        if records is None:
            table.rows.append([label, *[MISSING] * len(rates)])
            continue
        routers = [
            {"fusion": record.facts["routing"]["fusion"], **record.facts["routing"]["experts"]} for record in records
        ]
        for router, parts in routers[0].items():
            for part in parts:
                curves = np.array([one[router][part] for one in routers])
                columns = [RATES.index(rate) for rate in rates]
                table.rows.append([f"{label}, {router}: {part}", *(f"{curves[:, c].mean():.3f}" for c in columns)])
                for column in columns:
                    sheet.add_data(
                        f"{label}, {router}: {part}", f"load at r = {RATES[column]}", curves[:, column].tolist()
                    )
    return sheet


def patterns(view: View) -> list[Sheet]:
    """Show results by pattern of training and pattern of testing."""
    sheets = []
    for metric, title, sign in (("mae", "MAE", 1), ("corr", "Corr", -1)):
        table = Table(f"Trained on one pattern, tested on another: {title}", ["trained on", *PATTERNS])
        sheet = Sheet(f"patterns_{metric}", table)
        best = best_pattern_row(view, metric)
        for label, variant in trained_on().items():
            row = pattern_row(view, variant, metric)
            cells = [MISSING] * len(PATTERNS)
            if row is not None:
                cells = [mean_cell(values, metric) for values in row]
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
            table.rows.append([BEST_POSSIBLE, *(mean_cell(values, metric) for values in best)])
        sheet.caption = (
            "Averaged over r = 0.1, 0.3, 0.5, 0.7, 0.9 of the tested pattern, at the selected epoch. The pattern "
            "modalities keeps at least one modality per sample, so it drops less than r and is easier."
        )
        if best is not None:
            sheet.caption += (
                " In parentheses: the distance to the best possible predictor; compare columns by this distance."
            )
        sheets.append(sheet)
    return sheets


def pattern_row(view: View, variant: Variant, metric: str) -> list[list[float]] | None:
    """Return a metric under each pattern, averaged over its rates, one value per seed."""

    def read(pattern: str) -> list[Statistics] | None:
        conditions = _conditions(pattern)
        return chosen_rows(view, variant, conditions) if pattern == "frames" else view.pattern_rows(variant, conditions)

    return _by_pattern(read, metric)


def chosen_rows(view: View, variant: Variant, conditions: Sequence[str]) -> list[Statistics] | None:
    """Return the metrics of the selected epoch under any protocol."""
    records = view.records(variant)
    if records is None:
        return None
    seeds = [cell_metrics(record, conditions, "valid") for record in records]
    return [Statistics([seed[index] for seed in seeds]) for index in range(len(conditions))]


def best_pattern_row(view: View, metric: str) -> list[list[float]] | None:
    """Return the same row for the best possible predictor."""
    return _by_pattern(lambda pattern: view.best(_conditions(pattern)), metric)


def _by_pattern(read: Callable[[str], list[Statistics] | None], metric: str) -> list[list[float]] | None:
    """Average a metric over the conditions of each pattern; None if one lacks them."""
    found = []
    for pattern in PATTERNS:
        rows = read(pattern)
        if rows is None:
            return None
        found.append(_per_seed(rows, metric))
    return found


def _conditions(pattern: str) -> list[str]:
    """Return the names of a pattern's test conditions."""
    return [f"r={rate}" if pattern == "frames" else f"{pattern} r={rate}" for rate in PATTERN_RATES]


def _per_seed(rows: Sequence[Statistics], metric: str) -> list[float]:
    """Average a metric over conditions, one value per seed."""
    return [
        float(np.mean([seed[metric] for seed in seeds])) for seeds in zip(*(row.seeds for row in rows), strict=True)
    ]
