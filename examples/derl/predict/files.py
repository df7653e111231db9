"""Score the rows of a CSV file, in the format that training reads."""

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from derl.data.files import write_file
from derl.data.frames import cell_frames
from derl.data.rows import Row, csv_rows
from derl.data.split import DataError
from derl.predict.predictor import Answer, Predictor
from derl.predict.processor import Sample

CHUNK = 512  # rows whose frames are in memory at a time


def predict_csv(predictor: Predictor, source: Path, target: Path) -> int:
    """Score every row of a CSV file; write its columns and the answers to another file, atomically.

    Args:
        predictor: its modalities are the names of columns. ``text`` holds text; the others hold paths,
            relative to ``source``, of files that :func:`derl.data.frames.read_frames` reads. An empty cell or an absent
            column is a missing modality.
        source: a CSV file in UTF-8 with a header. Other columns are copied.
        target: file to write. Adds ``score``, for sentiment also ``class`` (-3 to 3) and ``class_name``; for classes
            ``class``, ``probability`` and ``probability_CLASS``; and, if the model has fusion weights,
            ``weight_MODALITY``. If it has a calibration, adds the interval as ``low`` and ``high``, or the set of
            ``classes``; if it may abstain, ``abstains``, yes or no. Where it abstains, the score and the class are
            empty.

    Returns:
        The number of rows.

    Raises:
        DataError: A file is invalid; the message names it and, for the CSV file, the line.
        OSError: ``target`` cannot be written.
    """
    if target.exists() and target.samefile(source):
        raise DataError(f"{target}: expected another file than the input; choose another --out.")
    if not target.absolute().parent.is_dir():
        raise DataError(f"{target}: expected a folder to write to, found none; create it.")
    text = io.StringIO(newline="")
    writer, count = None, 0
    rows = _read(predictor, source)
    while chunk := list(islice(rows, CHUNK)):
        answers = predictor.answer([sample for _, sample in chunk], [row.where for row, _ in chunk])
        for (row, _), answer in zip(chunk, answers, strict=True):
            columns = _columns(answer) | _trust(predictor, answer)
            if answer.abstains:
                columns |= dict.fromkeys(columns.keys() & {"score", "class", "class_name", "probability"}, "")
            if writer is None:
                clash = row.cells.keys() & columns.keys()
                if clash:
                    raise DataError(f"{source}: expected no column {min(clash)!r}, which the answers need; rename it.")
                writer = csv.DictWriter(text, [*row.cells, *columns])
                writer.writeheader()
            writer.writerow(row.cells | columns)
            count += 1
    if not count:
        raise DataError(f"{source}: expected rows below the header, found none; add one line per sample.")
    write_file(target, text.getvalue().encode())
    return count


def _columns(answer: Answer) -> dict[str, Any]:
    weights = {f"weight_{name}": round(weight, 6) for name, weight in (answer.weights or {}).items()}
    if answer.probabilities is not None:
        each = {f"probability_{name}": round(share, 6) for name, share in answer.probabilities.items()}
        return {"class": answer.name, "probability": round(answer.score, 6)} | each | weights
    classes = {} if answer.sentiment is None else {"class": answer.sentiment, "class_name": answer.name}
    return {"score": round(answer.score, 6)} | classes | weights


def _trust(predictor: Predictor, answer: Answer) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if answer.interval is not None:
        columns["low"], columns["high"] = (round(bound, 6) for bound in answer.interval)
    if answer.classes is not None:
        columns["classes"] = ";".join(answer.classes)
    if predictor.trust.abstain is not None:
        columns["abstains"] = "yes" if answer.abstains else "no"
    return columns


def _read(predictor: Predictor, source: Path) -> Iterator[tuple[Row, Sample]]:
    def check_header(header: list[str]) -> None:
        if not set(header) & set(predictor.modalities):
            raise DataError(
                f"{source}: expected a header with some of {predictor.modalities}, the model's modalities, found "
                f"{header}; add it as the first line."
            )

    for row in csv_rows(source, check_header):
        yield row, _sample(predictor, source.parent, row)


def _sample(predictor: Predictor, folder: Path, row: Row) -> Sample:
    given: dict[str, Any] = {}
    for name in predictor.modalities:
        cell = row.cells.get(name, "")
        if cell.strip():
            given[name] = cell if name == "text" else cell_frames(cell, folder, row.where)
    if not given:
        return dict.fromkeys(predictor.modalities)
    try:
        return predictor.processor.read(**given)[0][0]
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from error
