"""Read the frames of one sample, ``(T, D)``, from a file or a cell of a table."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from derl.data.audio import read_wav
from derl.data.csv_frames import read_csv
from derl.data.split import DataError

VIDEO = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".wmv", ".mpg", ".mpeg", ".flv")
PAGE = "docs/your-data.md"


def read_frames(path: str | Path) -> np.ndarray:
    """Read the frames of one sample.

    - ``.npy``, ``.npz``: numbers ``(T, D)``, or ``(D,)`` for one frame; an archive of one array.
    - ``.csv``: one frame per line, with or without a header, see :func:`derl.data.csv_frames.read_csv`.
    - ``.wav``: sound, see :func:`derl.data.audio.log_mel`.

    Returns:
        ``(T, D)`` float32, which may hold NaN and infinity.

    Raises:
        DataError: The file is missing, damaged or of another kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in VIDEO:
        raise DataError(
            f"{path}: expected features of the video's frames, found the video, which is not decoded; {PAGE} names "
            "tools that extract them."
        )
    if suffix not in READERS:
        raise DataError(f"{path}: expected a file of frames ({', '.join(READERS)}), found {suffix or 'no suffix'!r}.")
    return as_frames(READERS[suffix](path), str(path))


def as_frames(value: Any, where: str) -> np.ndarray:
    """Return numbers as frames ``(T, D)`` float32; ``(D,)`` is one frame, and ``(1, T, D)`` one sample.

    Raises:
        DataError: The value does not hold numbers of such a shape; the message starts with ``where``.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise DataError(f"{where}: expected numbers (frames, features), found {error}.") from error
    if array.ndim == 1 and array.size:
        array = array[None]
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{where}: expected numbers (frames, features), found {array.dtype} {array.shape}; save one sample per "
            "file."
        )
    with np.errstate(over="ignore"):  # out of range becomes infinite
        return array.astype(np.float32)


def cell_frames(cell: Any, folder: Path, where: str) -> np.ndarray:
    """Read the frames that a cell of a table names or holds.

    Args:
        cell: a path relative to ``folder``; numbers; or sound as the dict of a Hugging Face ``Audio`` column.
        folder: the table's folder.
        where: the start of an error's message.

    Raises:
        DataError: The cell cannot be read.
    """
    if isinstance(cell, dict) and cell.get("bytes") is not None:
        return read_wav(cell.get("path") or where, cell["bytes"])
    if isinstance(cell, dict):
        cell = cell.get("path")
    if isinstance(cell, (str, Path)):
        try:
            return read_frames(folder / str(cell).strip())
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    return as_frames(cell, where)


def is_frames_path(cell: Any) -> bool:
    """Return whether a cell names a file of frames, or of video, which is refused later."""
    return isinstance(cell, str) and Path(cell.strip()).suffix.lower() in (*READERS, *VIDEO)


def _read_array(path: Path) -> np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            if len(content.files) != 1:
                raise DataError(
                    f"{path}: expected an archive of one array, found {', '.join(content.files) or 'none'}; save one "
                    "array per file."
                )
            return content[content.files[0]]
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or "another format, or pickled objects, which are never read"
        remedy = "check the path" if isinstance(error, FileNotFoundError) else "save it with numpy.save"
        raise DataError(f"{path}: expected an array in a {path.suffix} file, found {reason}; {remedy}.") from error


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".npy": _read_array,
    ".npz": _read_array,
    ".csv": read_csv,
    ".wav": read_wav,
}
