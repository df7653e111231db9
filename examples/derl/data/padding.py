"""Find the frames of each row between its padding, and move those that are padded at the front to the start."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from derl.data.pickled import refuse

_FEWEST = 3  # equal frames that one row alone must begin or end with to be padded: two may be a frame shown twice
_NAMED = 5  # rows of a kind and a split that an error names


@dataclass
class Frames:
    """One modality of one split.

    Attributes:
        values: ``(N, L, D)``, NaN where a value was not observed.
        declared: ``(N,)``, the lengths that the file gives; None if it gives none.
        notes: what was decided.
    """

    values: np.ndarray
    declared: np.ndarray | None
    notes: list[str] = field(default_factory=list)


def unpad(key: str, splits: Mapping[str, Frames]) -> dict[str, np.ndarray]:
    """Move the frames of each row to its start, in place, and return the lengths ``(N,)`` per split.

    Padding is zero, NaN, or one frame that is repeated. With declared lengths, the rest of a row tells at which end it
    is padded, and a row of which it does not tell follows the others. Without, whatever pads either end is left out.
    The length of a row ends with its last frame that was observed.

    Args:
        key: the modality's key, which the notes and errors name.
        splits: the modality in every split.

    Raises:
        DataError: By their declared lengths, some rows are padded at the front and others are not.
    """
    ends = {name: _Ends(frames.values) for name, frames in splits.items()}
    declared = {name: frames for name, frames in splits.items() if frames.declared is not None}
    at_front = _at_front(key, declared, ends)
    repeated = _repeated({name: (frames.values, ends[name]) for name, frames in splits.items() if name not in declared})
    lengths = {}
    for name, frames in splits.items():
        limit = frames.values.shape[1]
        if frames.declared is None:
            starts, stops = _between(key, frames, ends[name], repeated)
        else:
            starts = limit - frames.declared if at_front else np.zeros_like(frames.declared)
            stops = starts + frames.declared
        lengths[name] = _move(key, frames, ends[name].blank, starts, stops)
    return lengths


class _Ends:
    """How many frames at either end of each row are blank (zero or NaN), and how many equal the first or last."""

    def __init__(self, values: np.ndarray) -> None:
        self.blank = np.isnan(values).all(axis=2) | ~values.any(axis=2)
        same = (values[:, 1:] == values[:, :-1]).all(axis=2)
        self.blank_front, self.blank_back = _leading(self.blank), _leading(self.blank[:, ::-1])
        self.same_front, self.same_back = 1 + _leading(same), 1 + _leading(same[:, ::-1])


def _leading(flags: np.ndarray) -> np.ndarray:
    return np.logical_and.accumulate(flags, axis=1).sum(axis=1)


def _at_front(key: str, splits: Mapping[str, Frames], ends: Mapping[str, _Ends]) -> bool:
    """Return whether all rows with declared lengths end with their frames rather than begin with them."""
    front: dict[str, np.ndarray] = {}
    back: dict[str, np.ndarray] = {}
    neither: dict[str, np.ndarray] = {}
    for name, frames in splits.items():
        padding = frames.values.shape[1] - frames.declared
        found, short = ends[name], padding > 0
        blank = found.blank_front >= padding, found.blank_back >= padding
        same = found.same_front >= padding, found.same_back >= padding
        decided = blank[0] | blank[1]  # by zeros; else by frames that repeat, of which there must be two
        before, after = (np.where(decided, by_zeros, repeats) for by_zeros, repeats in zip(blank, same, strict=True))
        front[name] = short & before & ~after
        back[name] = short & after & ~before
        neither[name] = short & ~before & ~after
    kinds = {"at the front": _listed(front), "at the end": _listed(back), "at neither end": _listed(neither)}
    if not kinds["at the front"]:
        for name, frames in splits.items():
            past = ends[name].blank_back < frames.values.shape[1] - frames.declared
            if past.any():
                note = f"{key} is not zero past {key}_lengths in {past.sum()} of {len(past)} rows: not read"
                frames.notes.append(note)
        return False
    if sum(map(bool, kinds.values())) > 1:
        found = ", and ".join(f"rows padded {kind} ({rows})" for kind, rows in kinds.items() if rows)
        refuse(f"{key} padded at one end", f"{found}, by {key}_lengths", "pad all rows at the end")
    return True


def _listed(rows: Mapping[str, np.ndarray]) -> str:
    """Name rows by split, such as "train 0, 3; test 1"; empty if there are none."""
    parts = []
    for name, flags in rows.items():
        numbers = np.flatnonzero(flags)
        if numbers.size:
            more = f" and {numbers.size - _NAMED} more" if numbers.size > _NAMED else ""
            parts.append(f"{name} {', '.join(map(str, numbers[:_NAMED]))}{more}")
    return "; ".join(parts)


def _repeated(splits: Mapping[str, tuple[np.ndarray, _Ends]]) -> set[bytes]:
    """Return the frames that pad rows without declared lengths though they are not zero, such as a standardized zero.

    A row is padded so if it begins or ends with equal frames, and nothing else in it repeats.
    """
    rows, longest = Counter[bytes](), Counter[bytes]()
    for values, ends in splits.values():
        limit = values.shape[1]
        for runs, flip in ((ends.same_front, 1), (ends.same_back, -1)):
            candidates = (runs >= 2) & (runs <= limit - 2) & (ends.blank_front + ends.blank_back == 0)
            for row in np.flatnonzero(candidates):
                padding, *_ = turned = values[row, ::flip]
                rest = turned[runs[row] :]
                if not (rest == padding).all(axis=1).any() and not (rest[1:] == rest[:-1]).all(axis=1).any():
                    rows[padding.tobytes()] += 1
                    longest[padding.tobytes()] = max(longest[padding.tobytes()], int(runs[row]))
    return {padding for padding, count in rows.items() if count > 1 or longest[padding] >= _FEWEST}


def _between(key: str, frames: Frames, ends: _Ends, repeated: set[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the frames between the padding of each row start and stop."""
    rows, limit, _ = frames.values.shape
    starts, stops = ends.blank_front.copy(), limit - ends.blank_back
    padded = np.zeros(rows, bool)
    if repeated:
        for row in np.flatnonzero(ends.blank_front + ends.blank_back == 0):
            first, last = (frames.values[row, place].tobytes() in repeated for place in (0, -1))
            starts[row] = ends.same_front[row] if first else 0
            stops[row] = limit - ends.same_back[row] if last else limit
            padded[row] = first or last
    if padded.any():
        frames.notes.append(
            f"{key} begins or ends with equal frames that are not zero in {padded.sum()} of {rows} rows, such as row "
            f"{padded.argmax()}: taken as padding"
        )
    return starts, np.maximum(starts, stops)


def _move(key: str, frames: Frames, blank: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Move the frames of each row to its start; return the lengths up to the last frame that was observed."""
    values, limit = frames.values, frames.values.shape[1]
    moved = (starts > 0) & (starts < stops)
    for row in np.flatnonzero(moved):
        length = stops[row] - starts[row]
        values[row, :length] = values[row, starts[row] : stops[row]].copy()
        values[row, length:] = 0
    if moved.any():
        frames.notes.append(
            f"{key} begins with padding in {moved.sum()} of {len(moved)} rows: their frames were moved to the start"
        )
    position = np.arange(limit)
    there = ~np.isnan(values).all(axis=2) & (position < (stops - starts)[:, None])
    lengths: np.ndarray = np.where(there, position + 1, 0).max(axis=1).astype(np.int64)
    return lengths
