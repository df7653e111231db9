"""What tables are made of: averages over r, and differences between rows."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from derl.evaluate.conditions import intra_modal
from derl.report.tables import Table
from derl.study.bootstrap import Difference, paired_differences
from derl.study.cell import Variant
from derl.study.judge import Statistics, chosen_epoch
from derl.study.references import add_constants, add_printed
from derl.study.sheet import MISSING, Sheet, metric_sheet, number
from derl.study.view import View

R = tuple(condition.name for condition in intra_modal())
ABOVE = ("MAE − best", "best − Corr")


def averages(
    view: View, name: str, title: str, variants: Mapping[str, Variant], table: str = "Table 1", only: str | None = None
) -> Sheet:
    """A sheet of averages over r, beside constants, the best possible predictor and rows of a table of the paper."""
    sheet = metric_sheet(name, title, "", *above(view))
    best = view.best_average(R)
    for label, variant in variants.items():
        row = view.average(variant, R)
        sheet.add(label, row, *distance(sheet, label, row, best))
    add_constants(view, sheet, best)
    add_printed(view, sheet, table, only)
    return sheet


def differences(view: View, name: str, variants: Mapping[str, Variant], pairs: Sequence[tuple[str, str]]) -> Sheet:
    """Paired bootstrap over test samples, at the chosen epochs."""
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
        "Brackets: 95 % percentile interval of a paired bootstrap over test samples (10 000 draws); * leaves out 0. "
        "It speaks of other test samples; the deviations beside the averages speak of other seeds."
    )
    return sheet


def _interval(found: Difference, scale: float) -> str:
    if not math.isfinite(found.value):
        return "-"
    digits = 3 if scale == 1 else 2
    value, low, high = (f"{scale * part:+.{digits}f}" for part in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]{' *' if found.is_clear else ''}"


def chosen_scores(view: View, variant: Variant) -> np.ndarray | None:
    """Scores of the chosen epochs, `(seeds * rates, n)`."""
    records = view.records(variant)
    if records is None:
        return None
    rows = [records[0].facts["conditions"].index(name) for name in R]
    return np.concatenate([record.arrays["test"][chosen_epoch(record)][rows] for record in records])


def distance(sheet: Sheet, label: str, row: Statistics | None, best: Statistics | None) -> list[str]:
    """Cells that say how far a row is from the best possible predictor; none where that is not known."""
    if best is None:
        return []
    if row is None:
        return [MISSING, MISSING]
    cells = []
    for metric, sign in (("mae", 1), ("corr", -1)):
        values = [sign * (ours[metric] - theirs[metric]) for ours, theirs in zip(row.seeds, best.seeds, strict=True)]
        sheet.add_data(label, f"{metric}, distance to the best possible", values)
        cells.append(number(float(np.mean(values)), deviation(values)))
    return cells


def above(view: View) -> tuple[str, ...]:
    """Headers of the distance to the best possible predictor, where that is known."""
    return ABOVE if view.best(R) is not None else ()


def deviation(values: Sequence[float]) -> float:
    """Standard deviation with n - 1 in the denominator; nan for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
