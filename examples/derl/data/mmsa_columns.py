"""Read the keys of a split of an MMSA pickle: text, labels, frames and their lengths."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

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


def read_lengths(key: str, entry: dict[str, Any], frames: np.ndarray, notes: list[str]) -> Tensor:
    """Return lengths ``(N,)``, each up to the last frame that was observed; undo padding at the front in place."""
    name, (rows, limit, _) = f"{key}_lengths", frames.shape
    position = np.arange(limit)
    there = ~np.isnan(frames).all(axis=2)
    filled = there & frames.any(axis=2)  # zeros are padding; NaN counts as not zero
    if name in entry:
        lengths = np.array(read_column(name, entry[name], int), dtype=np.int64)
        if len(lengths) != rows:
            refuse(f"{name} of {rows} rows, as {key}", f"{len(lengths)}", "the file is damaged; get it again")
        for row in np.flatnonzero((lengths < 0) | (lengths > limit))[:1]:
            refuse(f"{name} in 0 to {limit}", f"{lengths[row]} in row {row}", "the file is damaged; get it again")
        at_front = _padded_at_front(key, filled, lengths, notes)
    else:
        there = filled
        starts = np.where(filled.any(axis=1), filled.argmax(axis=1), limit)
        occupied = starts < limit
        full = filled[occupied, -1].all()
        at_front = bool(full and (starts[occupied] > 0).sum() > occupied.sum() / 2)
        lengths = limit - starts if at_front else np.full(rows, limit)
    if at_front:
        notes.append(f"{key} is padded at the front: its frames were moved to the start")
        for row, length in enumerate(lengths):
            frames[row, :length] = frames[row, limit - length :].copy()
            there[row, :length] = there[row, limit - length :].copy()
            frames[row, length:] = 0
    there &= position < lengths[:, None]
    ends = np.where(there, position + 1, 0).max(axis=1)
    return torch.from_numpy(ends.astype(np.int64))


def _padded_at_front(key: str, filled: np.ndarray, lengths: np.ndarray, notes: list[str]) -> bool:
    """Return whether all rows end with their frames rather than begin with them, judging by where zeros are."""
    rows, limit = filled.shape
    position = np.arange(limit)
    short = (lengths < limit) & filled.any(axis=1)
    past = (filled & (position >= lengths[:, None])).any(axis=1)  # frames that the end would be cut off
    before = (filled & (position < limit - lengths[:, None])).any(axis=1)  # frames that the start would be cut off
    front = short & past & ~before
    back = short & ~past & before
    if front.any() and back.any():
        refuse(
            f"{key} padded at one end",
            f"{front.sum()} rows that begin with zeros, such as row {front.argmax()}, and {back.sum()} that end with "
            f"them, such as row {back.argmax()}, by {key}_lengths",
            "pad all rows at the end",
        )
    if front.any() and not (short & past & before).any():
        return True
    if (short & past).any():
        notes.append(f"{key} is not zero past {key}_lengths in {(short & past).sum()} of {rows} rows: not read")
    return False
