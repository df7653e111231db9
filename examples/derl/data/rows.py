"""The rows of a table of samples: CSV, Parquet, or a folder that Hugging Face ``datasets`` saved."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derl.data.split import DataError

TABLES = (".csv", ".parquet")
HUGGING_FACE = ("dataset_dict.json", "dataset_info.json")  # what save_to_disk writes


@dataclass(frozen=True)
class Row:
    """One sample: its cells by column, and where it stands, for errors."""

    where: str
    cells: dict[str, Any]


def find_table(path: str | Path) -> Path | None:
    """Return the table that a path names: a file, or a folder with ``table.csv``, Parquet or a Hugging Face data set.

    None if the path is something else, e.g. a pickle or a folder of shards.
    """
    path = Path(path)
    if path.suffix.lower() in TABLES:
        return path
    for name in ("table.csv", "table.parquet"):
        if (path / name).is_file():
            return path / name
    return path if _is_hugging_face(path) or any(path.glob("*.parquet")) else None


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a table that :func:`find_table` found.

    Raises:
        DataError: The table cannot be read; the message names the file and, for CSV, the line.
    """
    if path.suffix.lower() == ".csv":
        return csv_rows(path)
    if _is_hugging_face(path):
        return _hugging_face_rows(path)
    return _parquet_rows(path)


def csv_rows(path: Path, check_header: Callable[[list[str]], None] = lambda header: None) -> Iterator[Row]:
    """Read the rows of a CSV file with a header, in UTF-8; every cell is a string.

    Raises:
        DataError: The file cannot be read, or a row does not fit the header; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            if len(set(header)) < len(header):
                raise DataError(f"{path}: expected every column once, found {header}; rename the second.")
            if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
                raise DataError(f"{path}: expected commas between the columns, found {header[0]!r}; save it with them.")
            check_header(header)
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if None in cells or None in cells.values():
                    raise DataError(f"{where}: expected as many cells as the header has; quote text that holds commas.")
                yield Row(where, cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "check the path" if isinstance(error, OSError) else "save it as UTF-8 text"
        raise DataError(f"{path}: expected a CSV file in UTF-8, found {reason}; {remedy}.") from error


def _is_hugging_face(path: Path) -> bool:
    return any((path / name).is_file() for name in HUGGING_FACE)


def _parquet_rows(path: Path) -> Iterator[Row]:
    """Read a file, or a folder whose files are named by their splits: ``train-00000-of-00001.parquet``."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(
            f"{path}: expected pyarrow to read Parquet, found it is not installed; run pip install 'modx[tables]', or "
            "save the table as CSV."
        ) from None
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    for file in files:
        split = {"split": file.stem.partition("-")[0]} if path.is_dir() else {}
        try:
            table = parquet.read_table(file)
        except (OSError, ArrowException) as error:
            raise DataError(f"{file}: expected a Parquet file, found {error}; write it again.") from error
        for number in range(len(table)):
            yield Row(f"{file}, row {number}", split | table.slice(number, 1).to_pylist()[0])


def _hugging_face_rows(path: Path) -> Iterator[Row]:
    try:
        from datasets import Audio, ClassLabel, DatasetDict, load_from_disk
    except ImportError:
        raise DataError(
            f"{path}: expected the package datasets to read this folder, found it is not installed; run pip install "
            "'modx[tables]', or save the table as CSV."
        ) from None
    try:
        found = load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected a folder that datasets saved, found {str(error).splitlines()[0]}; save it again."
        ) from error
    parts = found.items() if isinstance(found, DatasetDict) else [(None, found)]
    for split, part in parts:
        for name, feature in part.features.items():
            if isinstance(feature, Audio):
                part = part.cast_column(name, Audio(decode=False))
        names = {name: feature for name, feature in part.features.items() if isinstance(feature, ClassLabel)}
        for number, cells in enumerate(part):
            named = {name: names[name].int2str(cells[name]) for name in names if cells[name] is not None}
            where = f"{path}, {f'{split}, ' if split else ''}row {number}"
            yield Row(where, cells | named | ({"split": split} if split else {}))
