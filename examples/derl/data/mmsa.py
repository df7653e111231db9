"""Read the pickles of MMSA (`unaligned_50.pkl`, `aligned_50.pkl`) into splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derl.data.split import SPLITS, DataError, Split
from derl.data.unpickle import Array, kind, load_pickle, plain, refuse

FEATURES = ("audio", "vision")
LABEL_LIMIT = 3.0


def read_mmsa(path: str | Path) -> dict[str, Split]:
    """Read the splits train, valid and test of an MMSA pickle: protocols 0 to 5, numpy 1 and 2.

    Each split holds `id`, `regression_labels`, and any of `raw_text`, `audio` and `vision`, the last two
    `(N, L, D)` with optional `audio_lengths` and `vision_lengths`. Without lengths (aligned files), an
    utterance ends at its last frame that is not all zero. Values that are not finite become 0 and are counted.

    Raises:
        DataError: if the file is missing, not a pickle, truncated, holds anything but plain data and numpy
            arrays, or departs from the layout.
    """
    try:
        splits = _splits(load_pickle(Path(path)))
        _check_agreement(splits)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # whatever a hostile file provokes, memory and recursion errors included
        raise DataError(
            f"{path}: expected a pickle of plain data and numpy arrays, found one that breaks its reader, "
            f"{type(error).__name__}: {error}; get the file again."
        ) from error
    return splits


def describe_repairs(splits: Mapping[str, Split]) -> list[str]:
    """Say in one line per split and modality which values were repaired; empty if none were."""
    return [
        f"{name}: {count} values of {modality} were not finite and are now 0, first in row "
        f"{split.first_repaired[modality]}"
        for name, split in splits.items()
        for modality, count in split.repaired.items()
        if count
    ]


def _splits(content: Any) -> dict[str, Split]:
    if not isinstance(content, dict):
        refuse("a dict of the splits train, valid and test", type(content).__name__, "is it an MMSA file?")
    splits = {}
    for name in SPLITS:
        if name not in content:
            refuse(f"split {name!r}", f"only {_names(content)}", "use a file with the official split")
        if not isinstance(content[name], dict):
            refuse(f"split {name!r} to be a dict", type(content[name]).__name__, "is it an MMSA file?")
        try:
            splits[name] = _split(content[name])
        except DataError as error:
            raise DataError(f"split {name!r}: {error}") from error
    return splits


def _split(entry: dict[str, Any]) -> Split:
    held = [key for key in ("raw_text", *FEATURES) if key in entry]
    missing = [key for key in ("id", "regression_labels") if key not in entry]
    if missing or not held:
        key = repr(missing[0]) if missing else "'raw_text', 'audio' or 'vision'"
        refuse(f"key {key}", f"only {_names(entry)}", "use an MMSA file that has it")
    labels = _labels(entry["regression_labels"])
    columns = {key: _column(key, entry[key], str) for key in ("id", "raw_text") if key in entry}
    frames = {key: _frames(key, entry[key]) for key in FEATURES if key in entry}
    rows = {"regression_labels": labels, **columns, **frames}
    counts = {key: len(column) for key, column in rows.items()}
    if len(set(counts.values())) > 1 or not len(labels):
        refuse("one row per utterance in every key", f"{counts} rows", "the file is damaged; get it again")
    repairs = {key: _repair(values) for key, values in frames.items()}
    return Split(
        ids=columns["id"],
        text=columns.get("raw_text"),
        features={key: torch.from_numpy(values) for key, values in frames.items()},
        lengths={key: _lengths(key, entry, values) for key, values in frames.items()},
        labels=torch.from_numpy(labels),
        repaired={key: count for key, (count, _) in repairs.items()},
        first_repaired={key: row for key, (count, row) in repairs.items() if count},
    )


def _check_agreement(splits: Mapping[str, Split]) -> None:
    held = {name: split.modalities for name, split in splits.items()}
    if len(set(held.values())) > 1:
        refuse("the same modalities in every split", str(held), "use files from one source")
    for modality in splits[SPLITS[0]].features:
        widths = {name: split.features[modality].shape[2] for name, split in splits.items()}
        if len(set(widths.values())) > 1:
            refuse(f"{modality} of one width in every split", str(widths), "use files from one source")


def _column(key: str, value: Any, *types: type) -> list[Any]:
    """Return as a list what is a list or an array `(N,)` of these types, bool not being an int."""
    values = plain(value)
    names = " or ".join(kind.__name__ for kind in types)
    if not isinstance(values, list):
        refuse(f"key {key!r} to be a list or array (N,) of {names}", kind(value), "is it an MMSA file?")
    for row, item in enumerate(values):
        if type(item) not in types:
            refuse(f"{names} in key {key!r}", f"{kind(item)} in row {row}", f"convert it to {names}")
    return values


def _labels(value: Any) -> np.ndarray:
    labels = np.array(_column("regression_labels", value, float, int), dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(labels) <= LABEL_LIMIT))
    if wrong.size:
        found = f"{labels[wrong[0]]} in row {wrong[0]}"
        refuse(f"regression_labels in [-{LABEL_LIMIT:g}, {LABEL_LIMIT:g}]", found, "rescale or drop the row")
    return labels.astype(np.float32)


def _frames(key: str, value: Any) -> np.ndarray:
    """Return a float32 copy `(N, L, D)`; a float64 beyond its range becomes infinite, for repair."""
    array = value.content if isinstance(value, Array) else None
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
        refuse(f"key {key!r} to be a numeric array (N, L, D)", kind(value), "is it an MMSA file?")
    if not array.size:
        refuse(f"frames in key {key!r}", kind(value), "use an MMSA file that has them")
    with np.errstate(over="ignore", invalid="ignore"):  # a signalling nan warns
        return np.array(array, dtype=np.float32)


def _repair(values: np.ndarray) -> tuple[int, int]:
    """Zero in place what is not finite; return the count and the first row, 0 where there is none."""
    wrong = ~np.isfinite(values)
    values[wrong] = 0
    rows = wrong.any(axis=(1, 2))
    return int(wrong.sum()), int(rows.argmax())


def _lengths(key: str, entry: dict[str, Any], frames: np.ndarray) -> Tensor:
    name, (rows, limit, _) = f"{key}_lengths", frames.shape
    if name not in entry:
        position = np.arange(1, limit + 1) * frames.any(axis=2)
        return torch.from_numpy(np.maximum(position.max(axis=1), 1).astype(np.int64))
    lengths = _column(name, entry[name], int)
    if len(lengths) != rows:
        refuse(f"{name} of {rows} rows, as {key}", f"{len(lengths)}", "the file is damaged; get it again")
    for row, length in enumerate(lengths):
        if not 0 <= length <= limit:
            refuse(f"{name} in 0 to {limit}", f"{length} in row {row}", "the file is damaged; get it again")
    return torch.tensor(lengths, dtype=torch.int64)


def _names(mapping: dict[Any, Any]) -> str:
    return ", ".join(kind(key).removeprefix("str ") for key in list(mapping)[:20]) or "nothing"
