"""Read the frames of one sample from a CSV file, as pandas, NumPy, R, OpenFace and spreadsheets write it."""

import csv
import re
from itertools import pairwise
from pathlib import Path

import numpy as np

from derl.data.split import DataError

NO_FEATURE = ("frame", "face_id", "timestamp", "confidence", "success")  # OpenFace's columns beside the features
_NOTHING = ("", "na", "n/a", "#n/a", "<na>", "null", "none")  # in lower case; NaN is a number to Python
_UNNAMED = re.compile(r"(Unnamed: [\d.]+)?")  # pandas' name for a column whose header cell is empty
_FEW = 2  # columns in which the whole numbers 0, 1, ... may be a first frame as well as names


def read_csv(path: Path) -> np.ndarray:
    """Read one frame per line; an empty cell, or one that says NA or null, is NaN.

    The first line is a header if a cell of it is a word, or if it counts 0, 1, 2, ..., as pandas names columns. A
    column without a name that counts the frames is an index and no feature; one that is empty throughout is none
    either. OpenFace's columns ``frame``, ``face_id``, ``timestamp``, ``confidence`` and ``success`` are no features; a
    frame whose ``success`` is 0 is NaN.

    Returns:
        ``(T, D)`` float64.

    Raises:
        DataError: The file cannot be read, lines have different lengths, a cell is no number, or it cannot be told
            whether the first line is a header or what a column without a name holds.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file, strict=True) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: expected frames in a CSV file, one per line, found {reason}.") from error
    header = lines.pop(0) if _has_header(path, lines) else None
    width = len(header or (lines[0] if lines else ()))
    rows = [[_number(path, row, cell) for cell in line] for row, line in enumerate(lines, 1)]
    wrong = [number for number, row in enumerate(rows, 1) if len(row) != width]
    if wrong:
        raise DataError(
            f"{path}: expected {width} numbers in every line, found {len(rows[wrong[0] - 1])} in frame {wrong[0]}."
        )
    frames = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    return frames if header is None else _features(path, header, frames)


def _has_header(path: Path, lines: list[list[str]]) -> bool:
    first, rest = (lines[0], lines[1:]) if lines else ([], [])
    if any(map(_is_word, first)):  # beside words, names may be whole numbers; other numbers make a damaged frame
        return all(_is_word(cell) or _is_empty(cell) or cell.isdecimal() for cell in first)
    unnamed = first[:1] == [""]
    names = first[1:] if unnamed else first
    if not _counts(names):
        return False
    numbers = [cell for line in rest for cell in line if not _is_empty(cell)]
    fractions = not all(cell.lstrip("-").isdecimal() for cell in numbers)  # then the first line's numbers are names
    if len(names) > _FEW or fractions or (unnamed and _counts([line[0] for line in rest])):
        return True
    raise DataError(
        f"{path}: expected a first line that is names or a frame, found {','.join(first)!r}, which can be either; name "
        "the columns in words."
    )


def _features(path: Path, header: list[str], frames: np.ndarray) -> np.ndarray:
    """Return the columns that are features; frames in which OpenFace found no face become NaN."""
    if "success" in header:
        frames[frames[:, header.index("success")] == 0] = np.nan
    kept = []
    for column, name in enumerate(header):
        if not _UNNAMED.fullmatch(name):
            kept += [column] if name not in NO_FEATURE else []
        elif not np.isnan(frames[:, column]).all() and not _is_index([f"{cell:.17g}" for cell in frames[:, column]]):
            raise DataError(
                f"{path}: expected a name for every column, or an index that counts the frames, found other numbers in "
                f"column {column + 1}; name the column, or leave it out (pandas: to_csv(..., index=False))."
            )
    return frames[:, kept]


def _counts(cells: list[str]) -> bool:
    """Return whether cells are 0, 1, 2, ..., as pandas names columns."""
    return bool(cells) and cells == [str(number) for number in range(len(cells))]


def _is_index(cells: list[str]) -> bool:
    """Return whether cells are whole numbers that grow, as pandas and R number rows, some of which may be left out."""
    if not all(cell.isdecimal() for cell in cells):
        return False
    numbers = list(map(int, cells))
    return all(number < following for number, following in pairwise(numbers))


def _is_empty(cell: str) -> bool:
    return cell.lower() in _NOTHING


def _is_word(cell: str) -> bool:
    if _is_empty(cell):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return "_" in cell  # Python reads 1_000 as a number


def _number(path: Path, row: int, cell: str) -> float:
    if _is_empty(cell):
        return np.nan
    if _is_word(cell):
        raise DataError(f"{path}: expected numbers below the header, found {cell[:40]!r} in frame {row}.")
    return float(cell)
