"""Sheets of averages over the missing rate and by available modalities, and of differences between rows."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from derl.data.printed import printed_mean, printed_rows
from derl.evaluate.conditions import inter_modal, intra_modal
from derl.evaluate.protocol import BEST_POSSIBLE
from derl.evaluate.sentiment import CONSTANTS
from derl.report.tables import Table
from derl.study.cells import Variant
from derl.study.sheet import (
    MISSING,
    Sheet,
    add_constants,
    add_printed,
    data_set,
    mean_cell,
    metric_sheet,
    number,
    printed_note,
)
from derl.study.statistics import Difference, Statistics, chosen_epoch, paired_differences
from derl.study.view import View

R = tuple(condition.name for condition in intra_modal())
ABOVE = ("MAE − best", "best − Corr")
LETTERS = {"text": "t", "vision": "v", "audio": "a"}  # in the paper's order


def averages(
    view: View, name: str, title: str, variants: Mapping[str, Variant], table: str = "Table 1", only: str | None = None
) -> Sheet:
    """Return averages over r, beside constants, the best possible predictor and the rows of a table of the paper."""
    sheet = metric_sheet(name, title, "", *above(view))
    best = view.best_average(R)
    for label, variant in variants.items():
        row = view.average(variant, R)
        sheet.add(label, row, *distance(sheet, label, row, best))
    add_constants(view, sheet, best)
    add_printed(view, sheet, table, only)
    return sheet


def differences(view: View, name: str, variants: Mapping[str, Variant], pairs: Sequence[tuple[str, str]]) -> Sheet:
    """Return paired bootstrap differences over test samples, at the selected epochs."""
    header = ["first − second", "MAE", "MAE, relative", "Corr", "Acc-2 non0"]
    sheet = Sheet(name, Table("Differences, averaged over r and seeds", header), protocol="valid")
    for first, second in pairs:
        label = f"{first.strip()} − {second.strip()}"
        scores = [chosen_scores(view, variants[one]) for one in (first, second)]
        if scores[0] is None or scores[1] is None:
            sheet.table.rows.append([label, *[MISSING] * 4])
            sheet.data.append({"row": label, "figure": MISSING})
            continue
        labels = (view.records(variants[first]) or [])[0].arrays["labels_test"]
        found = paired_differences(scores[0], scores[1], labels)
        base = float(np.abs(scores[1] - labels).mean())
        cells = {metric: _interval(one, 100 if metric == "acc2_non0" else 1) for metric, one in found.items()}
        relative = f"{100 * found['mae'].value / base:+.2f} %"
        sheet.table.rows.append([label, cells["mae"], relative, cells["corr"], cells["acc2_non0"]])
        for metric, one in found.items():
            row = {"row": label, "figure": metric, "difference": one.value, "low": one.low, "high": one.high}
            sheet.data.append(row)
    sheet.caption = (
        "Brackets: 95 % percentile interval of a paired bootstrap over test samples (10 000 draws); *: the interval "
        "excludes 0. It shows the uncertainty over test samples; standard deviations show that over seeds."
    )
    return sheet


def _interval(found: Difference, scale: float) -> str:
    if not math.isfinite(found.value):
        return "-"
    digits = 3 if scale == 1 else 2
    value, low, high = (f"{scale * part:+.{digits}f}" for part in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]{' *' if found.is_clear else ''}"


def chosen_scores(view: View, variant: Variant) -> np.ndarray | None:
    """Return the scores of the selected epochs, ``(seeds * rates, n)``."""
    records = view.records(variant)
    if records is None:
        return None
    rows = [records[0].facts["conditions"].index(name) for name in R]
    return np.concatenate([record.arrays["test"][chosen_epoch(record)][rows] for record in records])


def distance(sheet: Sheet, label: str, row: Statistics | None, best: Statistics | None) -> list[str]:
    """Return cells with a row's distance to the best possible predictor, if that is known."""
    if best is None:
        return []
    if row is None:
        return [MISSING, MISSING]
    cells = []
    for metric, sign in (("mae", 1), ("corr", -1)):
        values = [sign * (ours[metric] - theirs[metric]) for ours, theirs in zip(row.seeds, best.seeds, strict=True)]
        sheet.add_data(label, f"{metric}, distance to the best possible", values)
        cells.append(mean_cell(values))
    return cells


def above(view: View) -> tuple[str, ...]:
    """Return headers of the distance to the best possible predictor, if that is known."""
    return ABOVE if view.best(R) is not None else ()


def metrics_by_available(view: View) -> Sheet:
    """Return all metrics per method and combination of modalities, and averages without and with the complete input."""
    sheet = metric_sheet("table2", "Table 2: only some modalities available", "method, available", *above(view))
    record = view.any_record()
    if record is None:
        for label, variant in view.methods.items():
            sheet.add(label, view.average(variant, R), *distance(sheet, label, None, None))
        return sheet
    incomplete = [name for name in record.facts["conditions"] if name not in R]
    conditions = {**{name: name for name in incomplete}, "+".join(record.facts["modalities"]): R[0]}
    best = view.best(list(conditions.values()))
    for label, variant in view.methods.items():
        rows = view.rows(variant, list(conditions.values())) or [None] * len(conditions)
        sheet.table.rule()
        for index, (available, row) in enumerate(zip(conditions, rows, strict=True)):
            name = f"{label}, {available}"
            sheet.add(name, row, *distance(sheet, name, row, best and best[index]))
        for text, part in (
            (f"average of {len(incomplete)} incomplete", incomplete),
            (f"average of all {len(conditions)}", list(conditions.values())),
        ):
            if part:
                name, row = f"{label}, {text}", view.average(variant, part)
                sheet.add(name, row, *distance(sheet, name, row, view.best_average(part)))
    add_constants(view, sheet, view.best_average(list(conditions.values())))
    return sheet


def f1_by_available(view: View, name: str, title: str, variants: Mapping[str, Variant], table: str) -> Sheet:
    """Return F1 per variant and combination of modalities, and averages without and with the complete input."""
    record = view.any_record()
    cases = inter_modal(list(LETTERS) if record is None else record.facts["modalities"])
    letters = [_letters(case.available or ()) for case in cases]
    conditions = [*(case.name for case in cases[:-1]), R[0]]
    averaged = [part for part in (conditions[:-1], conditions) if part]
    header = ["", *letters, *(f"avg. of {len(part)}" for part in averaged), "printed avg."]
    sheet = Sheet(name, Table(title, header))
    unknown = [None] * len(conditions)
    for label, variant in variants.items():
        rows = view.rows(variant, conditions) or unknown
        _add(sheet, label, [*rows, *(view.average(variant, part) for part in averaged)])
    sheet.table.rule()
    if record is not None:
        for label in CONSTANTS:
            _add(sheet, label, [Statistics([view.constants(record)[label]])] * (len(header) - 2))
    if view.synthetic:
        rows = view.best(conditions) or unknown
        _add(sheet, BEST_POSSIBLE, [*rows, *map(view.best_average, averaged)])
    sheet.table.rule()
    for label, numbers in printed_rows(table, data_set(view)).items():
        _add_printed(sheet, f"printed: {label}", numbers, letters, table)
    sheet.caption = (
        "F1 of negative against positive, in percent; the CSV file also holds that of negative against non-negative. "
        "t: text, v: vision, a: audio. Averages: over the incomplete combinations, and over all combinations."
    )
    sheet.note = printed_note(view, table)
    return sheet


def _add(sheet: Sheet, label: str, figures: Sequence[Statistics | None]) -> None:
    cells = []
    for case, one in zip(sheet.table.header[1:-1], figures, strict=True):
        if one is None:
            sheet.data.append({"row": label, "figure": MISSING, "note": f"available: {case}"})
            cells.append(MISSING)
            continue
        for metric in ("f1_has0", "f1_non0"):
            sheet.add_data(label, metric, [seed[metric] for seed in one.seeds], f"available: {case}")
        cells.append(number(one.mean["f1_non0"], one.deviation["f1_non0"], "f1_non0"))
    sheet.table.rows.append([label, *cells, ""])


def _add_printed(sheet: Sheet, label: str, numbers: Mapping[str, float], letters: Sequence[str], table: str) -> None:
    """Append a row of the paper, with averages over the same cases as ours and the average as printed."""
    values = [numbers.get(case, math.nan) for case in letters]
    averages = [printed_mean(part) for part in (values[:-1], values) if part]
    values += [*averages, numbers["average"]]
    for case, value in zip(sheet.table.header[1:], values, strict=True):
        sheet.add_data(label, "f1", [value / 100], f"available: {case}; printed in {table}, not run")
    sheet.table.rows.append([label, *(number(value / 100, name="f1") for value in values)])


def _letters(modalities: Sequence[str]) -> str:
    """Return the paper's short name of a combination, e.g. t+v, or the names if the paper lacks a modality."""
    if not LETTERS.keys() >= set(modalities):
        return "+".join(modalities)
    return "+".join(letter for name, letter in LETTERS.items() if name in modalities)
