"""F1 by available modalities, as the paper lays out its Tables 2 and 4, with its rows beside ours."""

import math
from collections.abc import Mapping, Sequence

from derl.data.printed import printed_mean, printed_rows
from derl.evaluate.conditions import inter_modal
from derl.report.tables import BEST_POSSIBLE, CONSTANTS, Table
from derl.study.averages import R
from derl.study.cell import Variant
from derl.study.judge import Statistics
from derl.study.references import data_set, printed_note
from derl.study.sheet import MISSING, Sheet, number
from derl.study.view import View

LETTERS = {"text": "t", "vision": "v", "audio": "a"}  # in the paper's order


def f1_by_available(view: View, name: str, title: str, variants: Mapping[str, Variant], table: str) -> Sheet:
    """One row per variant: F1 for each combination of modalities, and averages without and with the complete input."""
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
        "t: text, v: vision, a: audio. Averages: over the incomplete cases, and over all."
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
    """A row of the paper, with averages over the same cases as ours, and the average as printed."""
    values = [numbers.get(case, math.nan) for case in letters]
    averages = [printed_mean(part) for part in (values[:-1], values) if part]
    values += [*averages, numbers["average"]]
    for case, value in zip(sheet.table.header[1:], values, strict=True):
        sheet.add_data(label, "f1", [value / 100], f"available: {case}; printed in {table}, not run")
    sheet.table.rows.append([label, *(number(value / 100, name="f1") for value in values)])


def _letters(modalities: Sequence[str]) -> str:
    """The paper's short name of a combination, such as t+v; the names themselves where it has no such modality."""
    if not LETTERS.keys() >= set(modalities):
        return "+".join(modalities)
    return "+".join(letter for name, letter in LETTERS.items() if name in modalities)
