"""Score the rows of a CSV file, in the format that training reads, and write answers as CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from derl.data.absence import is_blank
from derl.data.files import write_file
from derl.data.frames import cell_frames
from derl.data.rows import Row, csv_rows
from derl.data.split import DataError
from derl.evaluate.answer import Answer
from derl.predict.predictor import Predictor
from derl.predict.processor import Sample
from derl.predict.trust import Trust

CHUNK = 512  # rows whose frames are in memory at a time


def predict_csv(predictor: Predictor, source: Path, target: Path) -> int:
    """Score every row of a CSV file; write its columns and the answers to another file, atomically.

    Args:
        predictor: its modalities are the names of columns. ``text`` holds text; the others hold paths,
            relative to ``source``, of files that :func:`derl.data.frames.read_frames` reads. An empty cell or an absent
            column is a missing modality.
        source: a CSV file in UTF-8 with a header. Other columns are copied.
        target: file to write, see :func:`write_answers`.

    Returns:
        The number of rows.

    Raises:
        DataError: A file is invalid; the message names it and, for the CSV file, the line.
        OSError: ``target`` cannot be written.
    """
    check_target(target, [source])
    written: list[dict[str, Any]] = []
    rows = _read(predictor, source)
    while chunk := list(islice(rows, CHUNK)):
        answers = predictor.answer([sample for _, sample in chunk], [row.where for row, _ in chunk])
        for (row, _), answer in zip(chunk, answers, strict=True):
            columns = as_columns(answer, predictor.trust)
            clash = row.cells.keys() & columns.keys()
            if clash:
                raise DataError(f"{source}: expected no column {min(clash)!r}, which the answers need; rename it.")
            written.append(row.cells | columns)
    if not written:
        raise DataError(f"{source}: expected rows below the header, found none; add one line per sample.")
    write_answers(written, target)
    return len(written)


def check_target(target: Path, sources: Iterable[Path]) -> None:
    """Refuse a file that cannot be written, before anything is scored.

    Raises:
        DataError: The file is one of the sources or neither ``.csv`` nor ``.json``, or its folder does not exist.
    """
    if target.exists() and any(source.exists() and target.samefile(source) for source in sources):
        raise DataError(f"{target}: expected another file than the input; choose another --out.")
    if target.suffix.lower() not in WRITERS:
        raise DataError(f"{target}: expected a file that ends in {' or '.join(WRITERS)}; rename it.")
    if not target.absolute().parent.is_dir():
        raise DataError(f"{target}: expected a folder to write to, found none; create it.")


def as_columns(answer: Answer, trust: Trust) -> dict[str, Any]:
    """Return an answer by column.

    ``score``, for sentiment also ``class`` (-3 to 3) and ``class_name``; for classes ``class``, ``probability`` and
    ``probability_CLASS``; and ``weight_MODALITY`` of a model with fusion weights. With a calibration, also the interval
    as ``low`` and ``high``, None if unbounded, or the set of ``classes``; and ``abstains``, if it may. Where it
    abstains, the score and the class are None.
    """
    columns: dict[str, Any] = {"score": _figure(answer, answer.score)}
    if answer.probabilities is not None:
        columns = {"class": answer.name, "probability": round(answer.score, 6)}
        columns |= {f"probability_{name}": round(share, 6) for name, share in answer.probabilities.items()}
    elif answer.sentiment is not None:
        columns |= {"class": answer.sentiment, "class_name": answer.name}
    columns |= {f"weight_{name}": round(weight, 6) for name, weight in (answer.weights or {}).items()}
    if answer.interval is not None:
        bounds = [_figure(answer, bound) if math.isfinite(bound) else None for bound in answer.interval]
        columns["low"], columns["high"] = bounds
    if answer.classes is not None:
        columns["classes"] = list(answer.classes)
    if trust.abstain is not None:
        columns["abstains"] = answer.abstains
    hidden = {"score", "class", "class_name", "probability"} if answer.abstains else set()
    return columns | dict.fromkeys(columns.keys() & hidden)


def _figure(answer: Answer, value: float) -> float:
    """Round sentiment to 6 decimals, and numbers on any scale to the 9 digits that tell apart any two float32."""
    return round(value, 6) if answer.sentiment is not None else float(f"{value:.9g}")


def write_answers(rows: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write answers atomically: a table to ``.csv``, a list of objects to ``.json``.

    In a table, None is an empty cell, a set of classes is joined by ";", and abstaining is yes or no.

    Raises:
        OSError: ``target`` cannot be written.
    """
    write_file(target, WRITERS[target.suffix.lower()](rows).encode())


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ";".join(value) if isinstance(value, list) else value


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


WRITERS = {".csv": _csv, ".json": _json}


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
        if not is_blank(cell):
            given[name] = cell if name == "text" else cell_frames(cell, folder, row.where)
    if not given:
        return dict.fromkeys(predictor.modalities)
    try:
        return predictor.processor.read(**given)[0][0]
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from error
