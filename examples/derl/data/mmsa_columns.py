"""Read the keys of a split of an MMSA pickle: text, labels, frames and their lengths."""

from typing import Any

import numpy as np

from derl.data.absence import is_blank
from derl.data.frames import PAGE
from derl.data.pickled import Array, kind, plain, refuse, remedy

OTHER_LAYOUT = f"write it in the layout of MMSA, or in one that {PAGE} describes"


def read_column(key: str, value: Any, *types: type) -> list[Any]:
    """Return a list or array ``(N,)`` of these types as a list; a bool does not count as an int."""
    values = plain(value)
    names = " or ".join(kind.__name__ for kind in types)
    if not isinstance(values, list):
        expected = f"key {key!r} to be a list or array (N,) of {names}"
        refuse(expected, kind(value), remedy(value, OTHER_LAYOUT))
    for row, item in enumerate(values):
        if type(item) not in types:
            refuse(f"{names} in key {key!r}", f"{kind(item)} in row {row}", remedy(item, f"convert it to {names}"))
    return values


def read_text(value: Any) -> list[str | None]:
    """Return transcripts, None for those that are absent: None, blank, or NaN, which is pandas' empty cell."""
    values = plain(value)
    if isinstance(values, list):
        values = ["" if is_blank(item) else item for item in values]
    return [item or None for item in read_column("raw_text", values, str)]


def read_labels(value: Any) -> np.ndarray:
    labels = np.array(read_column("regression_labels", value, float, int), dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(labels) <= np.finfo(np.float32).max))
    if wrong.size:
        found = f"{labels[wrong[0]]} in row {wrong[0]}"
        refuse("regression_labels that are finite in float32", found, "correct or drop the row")
    return labels.astype(np.float32)


def read_frames(key: str, value: Any) -> np.ndarray:
    """Return a float32 copy ``(N, L, D)`` with NaN for every value that is not finite, or too large for float32."""
    array = value.content if isinstance(value, Array) else None
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
        expected = f"key {key!r} to be a numeric array (N, L, D)"
        refuse(expected, kind(value), remedy(value, OTHER_LAYOUT))
    if not array.size:
        refuse(f"frames in key {key!r}", kind(value), "use an MMSA file that has them")
    with np.errstate(over="ignore", invalid="ignore"):  # a signaling NaN warns
        frames = np.array(array, dtype=np.float32)
    frames[np.isinf(frames)] = np.nan
    return frames


def read_lengths(key: str, entry: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the lengths ``(N,)`` that a split gives for frames of this shape; None if it gives none."""
    name, (rows, limit, _) = f"{key}_lengths", shape
    if name not in entry:
        return None
    lengths = np.array(read_column(name, entry[name], int), dtype=np.int64)
    if len(lengths) != rows:
        refuse(f"{name} of {rows} rows, as {key}", f"{len(lengths)}", "the file is damaged; get it again")
    for row in np.flatnonzero((lengths < 0) | (lengths > limit))[:1]:
        refuse(f"{name} in 0 to {limit}", f"{lengths[row]} in row {row}", "the file is damaged; get it again")
    return lengths
