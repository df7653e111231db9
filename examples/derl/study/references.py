"""Rows beside ours: the constant predictors, the best possible one, and what the paper prints."""

from pathlib import Path

import torch

from derl.data.label_counts import label_counts
from derl.data.printed import DATA_SETS, PRINTED, in_shares, printed_rows
from derl.data.split import SPLITS
from derl.report.tables import BEST_POSSIBLE, COLUMNS, CONSTANTS
from derl.study.judge import Statistics
from derl.study.sheet import Sheet
from derl.study.view import View


def add_constants(view: View, sheet: Sheet, best: Statistics | None) -> None:
    """Append the constant predictors and, where known, the best possible one."""
    record = view.any_record()
    blank = [""] * (len(sheet.table.header) - 1 - len(COLUMNS))
    sheet.table.rule()
    if record is not None:
        for label in CONSTANTS:
            sheet.add(label, view.constants(record)[label], *blank)
    if view.synthetic:
        sheet.add(BEST_POSSIBLE, best, *blank)


def add_printed(view: View, sheet: Sheet, table: str, only: str | None = None) -> None:
    """Append the metrics in a table of the paper, of all its rows or of one, and say what differs from them here."""
    blank = [""] * (len(sheet.table.header) - 1 - len(COLUMNS))
    sheet.table.rule()
    for name, numbers in printed_rows(table, data_set(view)).items():
        if only in (None, name):
            sheet.add(f"printed: {name}", in_shares(numbers), *blank, note=f"printed in {table}, not run")
    sheet.note = printed_note(view, table, with_details=only is None)


def data_set(view: View) -> str:
    """The paper's data set that a study's is, or stands in for: the synthetic data is modeled on MOSI."""
    return "MOSI" if view.options.data is None else DATA_SETS.get(view.options.preset, "MOSI")


def printed_note(view: View, table: str, with_details: bool = True) -> str:
    """Say whose numbers the printed rows are, and what differs in this study."""
    if not printed_rows(table, data_set(view)):
        return f"The paper prints {table} for CMU-MOSI alone."
    parts = [f"Printed: {table} of the paper, on CMU-{data_set(view)} with {PRINTED['text_encoder']}."]
    if view.options.data is None:
        parts.append("The data here is synthetic: the printed rows are for orientation only.")
    elif differences := _differences(view):
        parts.append(f"Here: {', '.join(differences)}.")
    if with_details:
        parts.append(PRINTED[table].get("note", ""))
    return " ".join(parts).strip()


def _differences(view: View) -> list[str]:
    record = view.any_record()
    if record is None:
        return []
    modalities = record.facts["modalities"]
    differences = [f"no {name}" for name in ("text", "audio", "vision") if name not in modalities]
    encoder = Path(view.options.text_encoder or "").name
    if "text" in modalities and encoder != PRINTED["text_encoder"]:
        differences.append(f"text encoder {encoder}")
    counts = {split: label_counts(torch.from_numpy(record.arrays[f"labels_{split}"])) for split in SPLITS}
    if counts != PRINTED["Table A.7"][data_set(view)]:
        differences.append("label counts other than in Table A.7")
    return differences
