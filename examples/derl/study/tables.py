"""Tables of a study: the paper's, and one of the parts of the recipes."""

from collections.abc import Sequence

import numpy as np

from derl.data.printed import in_shares, printed_rows
from derl.evaluate.conditions import RATES
from derl.evaluate.protocol import BEST_POSSIBLE, average
from derl.evaluate.sentiment import CONSTANTS
from derl.report.tables import Table
from derl.study.averages import R, above, averages, differences, distance, f1_by_available, metrics_by_available
from derl.study.cells import ABLATIONS, DERL, OPTIONS, PAPER, ROBUST, TRAINED_AT, experts
from derl.study.ledger import Record
from derl.study.sheet import (
    MISSING,
    Sheet,
    add_constants,
    add_printed,
    data_set,
    mean_cell,
    metric_cell,
    metric_sheet,
    printed_note,
)
from derl.study.statistics import Statistics, cell_metrics, chosen_epoch, selected_epochs
from derl.study.view import View

QUALITY = (("mae",), ("f1_has0", "f1_non0"), ("acc7",))  # in Table 6
BIAS = ("bias, validation", "bias, test", "MAE, validation", "MAE, test", "MAE, test, without bias")


def table1(view: View) -> list[Sheet]:
    """Table 1: averages over the missing rate, bootstrap differences over test samples, and the cost of a bias."""
    sheet = averages(view, "table1", "Table 1: averaged over r = 0, 0.1 .. 0.9", view.methods)
    by_rate = metric_sheet("table1_by_rate", "Table 1: every missing rate", "method, r", *above(view))
    by_rate.is_long = True
    best = view.best(R)
    for label, variant in view.methods.items():
        rows = view.rows(variant, R) or [None] * len(R)
        by_rate.table.rule()
        for index, (rate, row) in enumerate(zip(RATES, rows, strict=True)):
            name = f"{label}, {rate:.1f}"
            by_rate.add(name, row, *distance(by_rate, name, row, best and best[index]))
    if best is not None:
        by_rate.table.rule()
        for rate, row in zip(RATES, best, strict=True):
            by_rate.add(f"{BEST_POSSIBLE}, {rate:.1f}", row, "", "")
    paper, robust = list(view.methods)[::2], list(view.methods)[1::2]
    pairs = [(rows[0], other) for rows in (paper, robust) for other in rows[1:]]
    pairs += [*zip(robust, paper, strict=True), *((robust[0], other) for other in paper[1:])]
    return [sheet, by_rate, differences(view, "table1_differences", view.methods, pairs), _bias(view)]


def _bias(view: View) -> Sheet:
    """Return bias (mean of score minus label) and MAE on both splits, and test MAE without bias, averaged over r."""
    title = "Bias: mean of score minus label, averaged over r"
    sheet = Sheet("table1_bias", Table(title, ["", *BIAS]), protocol="valid")
    for label, variant in view.methods.items():
        records = view.records(variant)
        if records is None:
            sheet.table.rows.append([label, *[MISSING] * len(BIAS)])
            sheet.data.append({"row": label, "figure": MISSING})
            continue
        seeds = [_bias_of(record) for record in records]
        columns = {figure: [seed[figure] for seed in seeds] for figure in BIAS}
        for figure, values in columns.items():
            sheet.add_data(label, figure, values)
        cells = [mean_cell(values) for values in columns.values()]
        sheet.table.rows.append([label, *cells])
    sheet.caption = (
        "Without bias: the scores at each r are shifted by their mean error ON THE TEST SPLIT. No method may do so; "
        "it shows the MAE of a perfectly centered model."
    )
    return sheet


def _bias_of(record: Record) -> dict[str, float]:
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
    return dict(zip(BIAS, map(float, values), strict=True))


def table2(view: View) -> list[Sheet]:
    """Table 2: only some modalities available; every metric, and F1 beside the paper's."""
    title = "Table 2: F1 of negative against positive by available modalities"
    return [metrics_by_available(view), f1_by_available(view, "table2_f1", title, view.methods, "Table 2")]


def derl(view: View) -> list[Sheet]:
    """Show only DERL with the paper's recipe, beside the paper's own row."""
    return [averages(view, "derl", "DERL, paper's recipe, averaged over r = 0, 0.1 .. 0.9", {DERL: PAPER}, only="DERL")]


def table3(view: View) -> list[Sheet]:
    """Table 3: blocks removed one at a time, and single levels of reconstruction."""
    title = "Table 3: ablations, averaged over r"
    pairs = [(label, "DERL") for label in ABLATIONS if label != "DERL"]
    return [
        averages(view, "table3", title, ABLATIONS, "Table 3"),
        differences(view, "table3_differences", ABLATIONS, pairs),
    ]


def table4(view: View) -> list[Sheet]:
    """Table 4: the rows of Table 3 under missing modalities."""
    title = "Table 4: ablations, F1 of negative against positive by available modalities"
    return [f1_by_available(view, "table4", title, ABLATIONS, "Table 4")]


def table5(view: View) -> list[Sheet]:
    """Table 5: the missing rate that selects the checkpoint, and, in another reading of the text, the training rate."""
    split = {"valid": "validation", "paper": "TEST"}[view.protocol]
    title = f"Table 5: missing rate of the {split} split that selects the checkpoint (DERL, averaged over r)"
    sheet = metric_sheet("table5", title, "selected at r", "selected epochs", *above(view))
    records, best = view.records(PAPER), view.best_average(R)
    choices: dict[str, Sequence[float]] = {f"{rate:.1f}": [rate] for rate in RATES[1:]}
    choices |= {"0, 0.1 .. 0.9": RATES, "none: the last epoch": ()}
    for label, rates in choices.items():
        row, epochs = None, MISSING
        if records is not None:
            selected = [selected_epochs(record, view.protocol, rates=rates)["mae"] for record in records]
            epochs = ", ".join(str(epoch + 1) for epoch in selected)
            row = Statistics([average(cell_metrics(record, R, view.protocol, rates=rates)) for record in records])
        sheet.add(label, row, epochs, *distance(sheet, label, row, best))
    add_constants(view, sheet, best)
    add_printed(view, sheet, "Table 5")
    sheet.caption += {
        "valid": " Every checkpoint is selected by validation MAE.",
        "paper": " Each metric has its own selected epoch, as in Table 1. The epochs shown are for MAE.",
    }[view.protocol]
    title = "Table 5, read as a training rate: corrupted samples drop frames at one rate (DERL, averaged over r)"
    return [sheet, averages(view, "table5_training", title, TRAINED_AT, "Table 5")]


def table6(view: View) -> list[Sheet]:
    """Table 6: the cost of each method, beside its quality."""
    header = ["", "parameters", "without the text encoder", "s / epoch", "samples / s", "peak MiB"]
    header += ["MAE", "F1", "Acc-7"]
    sheet = Sheet("table6", Table("Table 6: cost and quality", header))
    for label, variant in view.methods.items():
        records, row = view.records(variant), view.average(variant, R)
        if records is None or row is None:
            sheet.table.rows.append([label, *[MISSING] * (len(header) - 1)])
            continue
        facts = [record.facts for record in records]
        costs = {
            "parameters": [fact["parameters"] for fact in facts],
            "parameters without the text encoder": [fact["parameters"] - fact["text_parameters"] for fact in facts],
            "seconds per epoch": [fact["seconds_an_epoch"] for fact in facts],
            "samples per second": [fact["samples_a_second"] for fact in facts],
            "peak memory, bytes": [fact["peak_memory"] for fact in facts],
        }
        for name, values in costs.items():
            sheet.add_data(label, name, values)
        median = {name: float(np.median(values)) for name, values in costs.items()}
        sheet.table.rows.append(
            [
                label,
                f"{median['parameters']:,.0f}",
                f"{median['parameters without the text encoder']:,.0f}",
                f"{median['seconds per epoch']:.3g}",
                f"{median['samples per second']:.0f}",
                f"{median['peak memory, bytes'] / 2**20:.0f}",
                *(metric_cell(row.mean, row.deviation, names) for names in QUALITY),
            ]
        )
    record = view.any_record()
    if record is not None:
        sheet.table.rule()
        for label in CONSTANTS:
            values = view.constants(record)[label]
            quality = [metric_cell(values, {}, names) for names in QUALITY]
            sheet.table.rows.append([label, "1", "1", "", "", "", *quality])
    sheet.table.rule()
    for label, numbers in printed_rows("Table 6", data_set(view)).items():
        sizes = [f"{numbers[name]:.2f} M" for name in ("parameters, millions", "without the text encoder")]
        quality = [metric_cell(in_shares(numbers), {}, names) for names in QUALITY]
        sheet.table.rows.append([f"printed: {label}", *sizes, f"{numbers['seconds per epoch']:.2f}", "", "", *quality])
    sheet.note = printed_note(view, "Table 6")
    sheet.caption = (
        "Medians over seeds. s / epoch: training with checkpoints, without evaluation. samples / s: scoring. peak MiB: "
        "the process's largest resident set during training, including data, libraries and leftovers of earlier cells; "
        "on a GPU, the memory allocated there. Other processes of the study may have used the same cores."
    )
    return [sheet]


def experts_table(view: View, preset: str) -> list[Sheet]:
    """Figure 3 as a table: private x shared experts."""
    variants = {f"P = {private}, S = {shared}": variant for (private, shared), variant in experts(preset).items()}
    title = "Figure 3: private (P) x shared (S) experts, averaged over r"
    return [averages(view, "figure3", title, variants, only="DERL")]


def options(view: View) -> list[Sheet]:
    """Show the effect of each part of the recipes, on the test split and on the validation split (for selection)."""
    title = "Parts of the recipes, averaged over r"
    pairs = [(label, ROBUST if label.startswith("  -") else DERL) for label in OPTIONS if label != DERL]
    sheets = [
        averages(view, "options", title, OPTIONS, only="DERL"),
        differences(view, "options_differences", OPTIONS, pairs),
    ]
    twin = metric_sheet("options_valid", "Parts of the recipes on the validation split, averaged over r", "")
    for label, variant in OPTIONS.items():
        twin.add(label, view.average(variant, R, split="valid"))
    return [*sheets, twin]
