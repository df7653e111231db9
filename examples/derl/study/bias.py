"""How far scores lean to one side, and what of the MAE is due to that alone."""

from collections.abc import Mapping

import numpy as np

from derl.report.tables import Table
from derl.study.averages import R, deviation
from derl.study.cell import Variant
from derl.study.judge import chosen_epoch
from derl.study.record import Record
from derl.study.sheet import MISSING, Sheet, number
from derl.study.view import View

FIGURES = ("bias, validation", "bias, test", "MAE, validation", "MAE, test", "MAE, test, less bias")


def bias_sheet(view: View, name: str, variants: Mapping[str, Variant]) -> Sheet:
    """Mean of score less label and the MAE on both splits, and the test MAE without the former, averaged over r."""
    title = "Bias: mean of score less label, averaged over r"
    sheet = Sheet(name, Table(title, ["", *FIGURES]), protocol="valid")
    for label, variant in variants.items():
        records = view.records(variant)
        if records is None:
            sheet.table.rows.append([label, *[MISSING] * len(FIGURES)])
            sheet.data.append({"row": label, "figure": MISSING})
            continue
        seeds = [_figures(record) for record in records]
        columns = {figure: [seed[figure] for seed in seeds] for figure in FIGURES}
        for figure, values in columns.items():
            sheet.add_data(label, figure, values)
        cells = [number(float(np.mean(values)), deviation(values)) for values in columns.values()]
        sheet.table.rows.append([label, *cells])
    sheet.caption = (
        "Less bias: each r's scores are shifted by their mean error ON THE TEST SPLIT. No method may do so; it "
        "shows what a perfectly centred model would have."
    )
    return sheet


def _figures(record: Record) -> dict[str, float]:
    rows = [record.facts["conditions"].index(name) for name in R]
    epoch = chosen_epoch(record)
    errors = {
        split: record.arrays[split][epoch][rows] - record.arrays[f"labels_{split}"] for split in ("valid", "test")
    }
    lean = errors["test"].mean(1, keepdims=True)
    values = (
        errors["valid"].mean(),
        lean.mean(),
        np.abs(errors["valid"]).mean(),
        np.abs(errors["test"]).mean(),
        np.abs(errors["test"] - lean).mean(),
    )
    return dict(zip(FIGURES, map(float, values), strict=True))
