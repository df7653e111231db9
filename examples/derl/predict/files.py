"""Read samples from files: frames from .npy, and CSV files to score row by row."""

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from derl.data.files import write_file
from derl.data.split import DataError
from derl.predict.predictor import Answer, Predictor
from derl.predict.processor import Sample

Row = dict[str, str]
CHUNK = 512  # rows whose frames are in memory at a time


def load_frames(path: Path) -> np.ndarray:
    """Read an array from a .npy file; object arrays are refused because they are pickled.

    Raises:
        DataError: The file is missing or does not hold an array.
    """
    try:
        frames = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "another format, or pickled objects, which are never read"
        raise DataError(
            f"{path}: expected an array in a .npy file, found {reason}; save it with numpy.save."
        ) from error
    if not isinstance(frames, np.ndarray):
        raise DataError(f"{path}: expected one array in a .npy file, found an archive; save it with numpy.save.")
    return frames


def predict_csv(predictor: Predictor, source: Path, target: Path) -> int:
    """Score every row of a CSV file; write its columns and the answers to another file, atomically.

    Args:
        predictor: its modalities are the names of columns. ``text`` holds text; the others hold paths of .npy files,
            relative to ``source``. An empty cell or an absent column is a missing modality.
        source: a CSV file in UTF-8 with a header. Other columns are copied.
        target: file to write. Adds ``score``, ``class`` (-3 to 3), ``class_name`` and, if the model has fusion weights,
            ``weight_MODALITY``.

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
        answers = predictor.answer([sample for _, sample in chunk])
        for (row, _), answer in zip(chunk, answers, strict=True):
            columns = _columns(answer)
            if writer is None:
                clash = row.keys() & columns.keys()
                if clash:
                    raise DataError(f"{source}: expected no column {min(clash)!r}, which the answers need; rename it.")
                writer = csv.DictWriter(text, [*row, *columns])
                writer.writeheader()
            writer.writerow(row | columns)
            count += 1
    if not count:
        raise DataError(f"{source}: expected rows below the header, found none; add one line per sample.")
    write_file(target, text.getvalue().encode())
    return count


def _columns(answer: Answer) -> dict[str, Any]:
    weights = {f"weight_{name}": round(weight, 6) for name, weight in (answer.weights or {}).items()}
    return {"score": round(answer.score, 6), "class": answer.sentiment, "class_name": answer.name} | weights


def _read(predictor: Predictor, source: Path) -> Iterator[tuple[Row, Sample]]:
    try:
        with source.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(predictor, source, reader.fieldnames or [])
            for row in reader:
                try:
                    yield row, _sample(predictor, source.parent, row)
                except DataError as error:
                    raise DataError(f"{source}, line {reader.line_num}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source}: expected a CSV file in UTF-8, found {reason}; save it as UTF-8 text.") from error


def _check_header(predictor: Predictor, source: Path, header: list[str] | Any) -> None:
    if len(set(header)) < len(header):
        raise DataError(f"{source}: expected every column once, found {header}; rename the second.")
    if not set(header) & set(predictor.modalities):
        raise DataError(
            f"{source}: expected a header with some of {predictor.modalities}, the model's modalities, found "
            f"{list(header)}; add it as the first line."
        )


def _sample(predictor: Predictor, folder: Path, row: Row) -> Sample:
    if None in row or None in row.values():
        raise DataError("expected as many cells as the header has; quote text that holds commas.")
    given: dict[str, Any] = {}
    for name in predictor.modalities:
        cell = row.get(name, "")
        if cell.strip():
            given[name] = cell if name == "text" else load_frames(folder / cell.strip())
    return predictor.processor.read(**given)[0][0] if given else dict.fromkeys(predictor.modalities)
