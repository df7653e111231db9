"""The paper's tables, and those that it leaves open, read from a study."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from derl.conditions import PATTERN_RATES, RATES, intra_modal
from derl.protocol import Metrics, average, measure
from derl.study.bootstrap import paired_differences
from derl.study.cell import BEST_POSSIBLE, Variant
from derl.study.judge import MORE_IS_BETTER, Statistics, chosen_epoch, figures
from derl.study.record import Record
from derl.study.sheet import MISSING, Sheet, metric_sheet, number
from derl.study.variants import BLOCKS, DERL, METHODS, OPTIONS, PAPER, RECONSTRUCTIONS, ROBUST, TRAINED_ON, experts
from derl.study.view import PRINTED, View
from derl.tables import COLUMNS, CONSTANTS, Table
from modx.missing import PATTERNS

R = tuple(condition.name for condition in intra_modal())
ABOVE = ("MAE − best", "best − Corr")


def table1(view: View) -> list[Sheet]:
    """Averages over the missing rate, and which differences the test samples bear out."""
    sheet = averages(view, "table1", "Table 1: averaged over r = 0, 0.1 .. 0.9", METHODS)
    by_rate = metric_sheet("table1_by_rate", "Table 1: every missing rate", "method, r", *_above(view))
    by_rate.is_long = True
    best = view.best(R)
    for label, variant in METHODS.items():
        rows = view.rows(variant, R) or [None] * len(R)
        by_rate.table.rule()
        for index, (rate, row) in enumerate(zip(RATES, rows, strict=True)):
            name = f"{label}, {rate:.1f}"
            by_rate.add(name, row, *distance(by_rate, name, row, best and best[index]))
    if best is not None:
        by_rate.table.rule()
        for rate, row in zip(RATES, best, strict=True):
            by_rate.add(f"{BEST_POSSIBLE}, {rate:.1f}", row, "", "")
    return [sheet, by_rate, differences(view)]


def averages(view: View, name: str, title: str, variants: Mapping[str, Variant]) -> Sheet:
    """A sheet of averages over r, beside constants, the best possible predictor and what the paper prints."""
    sheet = metric_sheet(name, title, "", *_above(view))
    best = view.best_average(R)
    for label, variant in variants.items():
        row = view.average(variant, R)
        sheet.add(label, row, *distance(sheet, label, row, best))
    add_references(view, sheet, best, "Table 1")
    return sheet


def add_references(view: View, sheet: Sheet, best: Statistics | None, printed: str) -> None:
    """Append the constant predictors, where known the best possible one, and what a table of the paper prints."""
    record = view.any_record()
    blank = [""] * (len(sheet.table.header) - 1 - len(COLUMNS))
    sheet.table.rule()
    if record is not None:
        for label in CONSTANTS:
            sheet.add(label, view.constants(record)[label], *blank)
    if view.synthetic:
        sheet.add(BEST_POSSIBLE, best, *blank)
    sheet.table.rule()
    for row in PRINTED["rows"]:
        if row["table"] == printed:
            values = {name: value for name, value in row.items() if name in MORE_IS_BETTER}
            sheet.add(f"printed: {row['row']}", values, *blank, note="printed, not run")


def differences(view: View) -> Sheet:
    """Paired bootstrap over test samples of the methods that differ in one thing, at the chosen epochs."""
    table = Table("Differences, averaged over r and seeds", ["first − second", "MAE", "Corr", "Acc-2 non0"])
    sheet = Sheet("table1_differences", table, protocol="valid")
    names = list(METHODS)
    for first, second in ((0, 2), (1, 3), (1, 0), (3, 2), (1, 2)):
        label = f"{names[first]} − {names[second]}"
        cells = [MISSING] * 3
        scores = [chosen_scores(view, METHODS[names[index]]) for index in (first, second)]
        if scores[0] is not None and scores[1] is not None:
            labels = (view.records(METHODS[names[first]]) or [])[0].arrays["labels_test"]
            cells = []
            for name, found in paired_differences(scores[0], scores[1], labels).items():
                scale, digits = (1, 3) if name != "acc2_non0" else (100, 2)
                value, low, high = (f"{scale * part:+.{digits}f}" for part in (found.value, found.low, found.high))
                cells.append(f"{value} [{low}, {high}]{' *' if found.is_clear else ''}")
                sheet.data.append(
                    {"row": label, "figure": name, "difference": found.value, "low": found.low, "high": found.high}
                )
        table.rows.append([label, *cells])
    sheet.caption = (
        "Brackets: 95 % percentile interval of a paired bootstrap over test samples (10 000 draws); * leaves out 0. "
        "It speaks of other test samples; the deviations beside the averages speak of other seeds."
    )
    return sheet


def chosen_scores(view: View, variant: Variant) -> np.ndarray | None:
    """Scores of the chosen epochs, `(seeds * rates, n)`."""
    records = view.records(variant)
    if records is None:
        return None
    rows = [records[0].facts["conditions"].index(name) for name in R]
    return np.concatenate([record.arrays["test"][chosen_epoch(record)][rows] for record in records])


def table2(view: View) -> list[Sheet]:
    """Only some modalities available."""
    sheet = metric_sheet("table2", "Table 2: only some modalities available", "method, available", *_above(view))
    record = view.any_record()
    if record is None:
        for label, variant in METHODS.items():
            sheet.add(label, view.average(variant, R), *distance(sheet, label, None, None))
        return [sheet]
    incomplete = [name for name in record.facts["conditions"] if name not in R]
    conditions = {**{name: name for name in incomplete}, "+".join(record.facts["modalities"]): R[0]}
    best = view.best(list(conditions.values()))
    for label, variant in METHODS.items():
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
    add_references(view, sheet, view.best_average(list(conditions.values())), "Table 2")
    return [sheet]


def table3(view: View) -> list[Sheet]:
    """Blocks taken out, one at a time."""
    return [averages(view, "table3", "Table 3: blocks taken out, averaged over r", BLOCKS)]


def table4(view: View) -> list[Sheet]:
    """Reconstruction levels."""
    return [averages(view, "table4", "Table 4: levels that are reconstructed, averaged over r", RECONSTRUCTIONS)]


def table5(view: View) -> list[Sheet]:
    """The missing rate at which the validation split chooses the checkpoint."""
    title = "Table 5: missing rate of the validation split that chooses the checkpoint (DERL, averaged over r)"
    sheet = metric_sheet("table5", title, "chosen at r", "epochs chosen", *_above(view))
    records, best = view.records(PAPER), view.best_average(R)
    choices = {f"{rate:.1f}": [rate] for rate in RATES[1:]} | {"0, 0.1 .. 0.9": list(RATES)}
    for label, rates in choices.items():
        row, epochs = None, MISSING
        if records is not None:
            chosen = [chosen_epoch(record, rates, "mae") for record in records]
            epochs = ", ".join(str(epoch + 1) for epoch in chosen)
            row = Statistics([_epoch_average(record, epoch) for record, epoch in zip(records, chosen, strict=True)])
        sheet.add(label, row, epochs, *distance(sheet, label, row, best))
    add_references(view, sheet, best, "Table 1")
    sheet.caption = "Every choice is by validation MAE."
    return [sheet]


def _epoch_average(record: Record, epoch: int) -> Metrics:
    rows = [record.facts["conditions"].index(name) for name in R]
    labels = torch.from_numpy(record.arrays["labels_test"])
    return average([measure(torch.from_numpy(scores), labels) for scores in record.arrays["test"][epoch][rows]])


def table6(view: View) -> list[Sheet]:
    """What each method costs, beside what it achieves."""
    header = ["", "parameters", "beside the text encoder", "s an epoch", "samples / s", "peak MiB", "MAE", "Corr"]
    sheet = Sheet("table6", Table("Table 6: cost and quality", header))
    for label, variant in METHODS.items():
        records, row = view.records(variant), view.average(variant, R)
        if records is None or row is None:
            sheet.table.rows.append([label, *[MISSING] * 7])
            continue
        facts = [record.facts for record in records]
        costs = {
            "parameters": [fact["parameters"] for fact in facts],
            "parameters beside the text encoder": [fact["parameters"] - fact["text_parameters"] for fact in facts],
            "seconds an epoch": [fact["seconds_an_epoch"] for fact in facts],
            "samples a second": [fact["samples_a_second"] for fact in facts],
            "peak memory, bytes": [fact["peak_memory"] for fact in facts],
        }
        for name, values in costs.items():
            sheet.add_data(label, name, values)
        median = {name: float(np.median(values)) for name, values in costs.items()}
        sheet.table.rows.append(
            [
                label,
                f"{median['parameters']:,.0f}",
                f"{median['parameters beside the text encoder']:,.0f}",
                f"{median['seconds an epoch']:.3g}",
                f"{median['samples a second']:.0f}",
                f"{median['peak memory, bytes'] / 2**20:.0f}",
                number(row.mean["mae"], row.deviation["mae"], "mae"),
                number(row.mean["corr"], row.deviation["corr"], "corr"),
            ]
        )
    record = view.any_record()
    if record is not None:
        sheet.table.rule()
        for label in CONSTANTS:
            values = view.constants(record)[label]
            sheet.table.rows.append([label, "1", "1", "", "", "", number(values["mae"]), "-"])
    average_row = next(row for row in PRINTED["rows"] if row["table"] == "Table 1")
    size_row = next(row for row in PRINTED["rows"] if row["table"] == "Table 6")
    quality = [number(average_row["mae"]), number(average_row["corr"])]
    sheet.table.rule()
    sheet.table.rows.append(["printed: DERL", "", f"{size_row['parameters']:,}", "", "", "", *quality])
    sheet.caption = (
        "Medians over seeds. Seconds of training alone; samples scored per second; peak memory is the process's "
        "largest resident set while it trains (on a GPU: memory allocated there), data and libraries included."
    )
    return [sheet]


def recipes(view: View) -> list[Sheet]:
    """Whether a recipe collapses where modalities are missing."""
    header = [
        "method, available",
        "MAE",
        "Corr",
        "Corr / best possible",
        "spread",
        "commonest class",
        "its share",
        "fusion entropy",
        "expert entropy",
    ]
    sheet = Sheet("recipes", Table("Collapse by available modalities", header))
    record = view.any_record()
    conditions = [name for name in record.facts["conditions"] if name not in R] if record is not None else []
    shown = {name: name for name in conditions} | ({"complete": R[0]} if conditions else {})
    best = view.best(list(shown.values()))
    for label in (DERL, ROBUST):
        sheet.table.rule()
        rows = view.rows(METHODS[label], list(shown.values()))
        if rows is None or not shown:
            sheet.table.rows.append([label, *[MISSING] * 8])
            continue
        for index, (available, condition) in enumerate(shown.items()):
            name, row = f"{label}, {available}", rows[index]
            diagnosis = view.diagnostics(METHODS[label], condition) or {}
            ratio = ""
            if best is not None:
                ratios = [
                    ours["corr"] / theirs["corr"] for ours, theirs in zip(row.seeds, best[index].seeds, strict=True)
                ]
                sheet.add_data(name, "corr / best possible", ratios)
                ratio = number(float(np.mean(ratios)), float(np.std(ratios, ddof=1)) if len(ratios) > 1 else np.nan)
            for figure in ("mae", "corr"):
                sheet.add_data(name, figure, [seed[figure] for seed in row.seeds])
            for figure, value in diagnosis.items():
                sheet.add_data(name, figure, [value], "mean over seeds")
            sheet.table.rows.append(
                [
                    name,
                    number(row.mean["mae"], row.deviation["mae"]),
                    number(row.mean["corr"], row.deviation["corr"]),
                    ratio,
                    f"{diagnosis['spread']:.2f}",
                    f"{diagnosis['commonest_class']:+.1f}",
                    f"{100 * diagnosis['commonest_share']:.0f} %",
                    *(
                        f"{diagnosis[name]:.3f}" if name in diagnosis else "-"
                        for name in ("fusion_entropy", "expert_entropy")
                    ),
                ]
            )
    if record is not None:
        sheet.table.rule()
        for label in CONSTANTS:
            sheet.table.rows.append([label, number(view.constants(record)[label]["mae"]), "-", "", "0.00", *[""] * 4])
    sheet.caption = (
        "Spread: standard deviation of the scores over that of the labels (0: a constant). Commonest class: of seven, "
        "the one answered most (mean over seeds). Entropies: of the routers' weights, 1 where all weigh the same."
    )
    return [sheet]


def patterns(view: View) -> list[Sheet]:
    """Trained on each pattern, tested on all."""
    sheets = []
    for metric, title, sign in (("mae", "MAE", 1), ("corr", "Corr", -1)):
        table = Table(f"Trained on one pattern, tested on another: {title}", ["trained on", *PATTERNS])
        sheet = Sheet(f"patterns_{metric}", table)
        best = best_pattern_row(view, metric)
        for label, variant in TRAINED_ON.items():
            row = pattern_row(view, variant, metric)
            cells = [MISSING] * len(PATTERNS)
            if row is not None:
                cells = [number(float(np.mean(v)), _deviation(v), metric) for v in row]
                for index, (pattern, values) in enumerate(zip(PATTERNS, row, strict=True)):
                    sheet.add_data(label, metric, values, f"tested on {pattern}")
                    if best is not None:
                        away = [sign * (ours - theirs) for ours, theirs in zip(values, best[index], strict=True)]
                        sheet.add_data(label, f"{metric}, distance to the best possible", away, f"tested on {pattern}")
            table.rows.append([label, *cells])
        table.rule()
        record = view.any_record()
        if record is not None and metric == "mae":
            for label in CONSTANTS:
                table.rows.append([label, *[number(view.constants(record)[label][metric])] * len(PATTERNS)])
        if best is not None:
            table.rows.append([BEST_POSSIBLE, *(number(float(np.mean(v)), _deviation(v), metric) for v in best)])
        sheet.caption = "Averaged over r = 0.1, 0.3, 0.5, 0.7, 0.9 of the tested pattern, at the chosen epoch."
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


def options(view: View) -> list[Sheet]:
    """What each part of the recipe does."""
    return [averages(view, "options", "Parts of the recipes, averaged over r", OPTIONS)]


def experts_table(view: View, preset: str) -> list[Sheet]:
    """Private x shared experts."""
    variants = {f"P = {private}, S = {shared}": variant for (private, shared), variant in experts(preset).items()}
    return [averages(view, "figure3", "Figure 3: private (P) x shared (S) experts, averaged over r", variants)]


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
        cells.append(number(float(np.mean(values)), _deviation(values)))
    return cells


def _above(view: View) -> tuple[str, ...]:
    return ABOVE if view.best(R) is not None else ()


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
