"""Read MMSA pickles (``unaligned_50.pkl``, ``aligned_50.pkl``) into splits."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from derl.data.mmsa_columns import OTHER_LAYOUT, read_column, read_frames, read_labels, read_lengths, read_text
from derl.data.padding import Frames, unpad
from derl.data.pickled import Array, kind, refuse, remedy
from derl.data.split import SPLITS, DataError, Split
from derl.data.unpickle import load_pickle
from modx._modalities import is_name

FEATURES = ("audio", "vision")  # modalities that come first; others follow
TEXT_FEATURES = "text_features"  # the modality read from the key `text` on request; a modality named text holds words
_COLUMNS = ("id", "regression_labels", "raw_text")
_SHOWN = 20  # keys left out that are listed by name


def read_mmsa(path: str | Path, *, text_features: bool = False) -> dict[str, Split]:
    """Read the train, valid and test splits of an MMSA pickle (protocols 0 to 5, NumPy 1 and 2).

    Each split holds ``id``, ``regression_labels`` and its modalities: ``raw_text``, and every numeric array ``(N, L,
    D)``, e.g. ``audio``, ``vision`` or ``heart``, whose lengths are in ``heart_lengths``. Without lengths (aligned
    files), an utterance lies between its first and its last frame that are not all zero. A value that is not finite
    counts as missing. An utterance without any frame that was observed lacks the modality, and one whose text is None,
    NaN or blank lacks the text. ``Split.left_out`` maps each key that was not read to the reason.

    MMSA's keys ``text`` and ``text_bert`` hold precomputed features and BERT token ids. They are left out; the words
    are read from ``raw_text``. Without ``raw_text``, ``text`` is read as the modality ``text_features``.

    Frames that are padded at the front are moved to the start, see :func:`derl.data.padding.unpad`. ``Split.notes``
    says so, and whatever else was decided.
    A key that is not needed may hold anything.

    Args:
        path: path of the pickle.
        text_features: read ``text`` instead of ``raw_text``, as the modality ``text_features``.

    Raises:
        DataError: The file is missing, truncated or not a pickle, holds anything but plain data and NumPy arrays, or
            does not have the layout above.
    """
    try:
        content = load_pickle(Path(path))
        _check_sharing(content, Path(path).stat().st_size)
        splits = _splits(content, text_features)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a hostile file can raise anything, including memory and recursion errors
        raise DataError(
            f"{path}: expected a pickle of plain data and numpy arrays, found one that breaks its reader, "
            f"{type(error).__name__}: {error}; get the file again."
        ) from error
    return splits


def describe_notes(splits: Mapping[str, Any]) -> list[str]:
    """Report what was decided about each split, one line per decision."""
    return [f"{name}: {note}" for name, split in splits.items() for note in split.notes]


def describe_left_out(splits: Mapping[str, Split]) -> list[str]:
    """Report the keys that were not read and why, one line per key; empty if all were read."""
    reasons: dict[str, str] = {}
    for split in splits.values():
        reasons = split.left_out | reasons
    return [f"left out: {name}, {reason}" for name, reason in reasons.items()]


def _check_sharing(content: Any, size: int) -> None:
    """Refuse arrays shared by many keys: their copies would take more memory than the file's size suggests."""
    entries = [entry for entry in content.values() if isinstance(entry, dict)] if isinstance(content, dict) else []
    numbers = sum(math.prod(value.shape) for entry in entries for value in entry.values() if _is_read(value))
    if numbers > size:
        refuse("arrays with bytes of their own", f"{numbers} numbers in {size} bytes", "save a copy under each key")


def _is_read(value: Any) -> bool:
    return isinstance(value, Array) and value.content is not None


def _splits(content: Any, text_features: bool) -> dict[str, Split]:
    if not isinstance(content, dict):
        refuse("a dict of the splits train, valid and test", kind(content), remedy(content, OTHER_LAYOUT))
    parts = {}
    for name in SPLITS:
        if name not in content:
            refuse(f"split {name!r}", f"only {_names(content)}", "use a file with the official split")
        if not isinstance(content[name], dict):
            found = content[name]
            refuse(f"split {name!r} to be a dict", kind(found), remedy(found, OTHER_LAYOUT))
        with _naming(name):
            parts[name] = _part(content[name], text_features)
    _check_agreement(parts)
    lengths: dict[str, dict[str, Tensor]] = {name: {} for name in parts}
    for modality, key in parts[SPLITS[0]].keys.items():
        found = unpad(key, {name: part.frames[modality] for name, part in parts.items()})
        for name in parts:
            lengths[name][modality] = torch.from_numpy(found[name])
    splits = {}
    for name, part in parts.items():
        with _naming(name):
            splits[name] = _split(part, lengths[name], text_features)
    return splits


@contextmanager
def _naming(split: str) -> Iterator[None]:
    """Say in which split the error is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"split {split!r}: {error}") from error


class _Part(NamedTuple):
    """What a split of the file holds, before the padding of frames is undone; ``keys`` maps modality -> key."""

    keys: dict[str, str]
    columns: dict[str, list[Any]]
    frames: dict[str, Frames]
    labels: np.ndarray
    left_out: dict[str, str]

    @property
    def modalities(self) -> tuple[str, ...]:
        return (("text",) if "raw_text" in self.columns else ()) + tuple(self.keys)


def _split(part: _Part, lengths: dict[str, Tensor], text_features: bool) -> Split:
    notes = [note for frames in part.frames.values() for note in frames.notes]
    if TEXT_FEATURES in part.keys and not text_features:
        notes.append("there is no raw_text: the features in text are read as the modality text_features")
    return Split(
        ids=part.columns["id"],
        text=part.columns.get("raw_text"),
        features={name: torch.from_numpy(frames.values) for name, frames in part.frames.items()},
        lengths=lengths,
        notes=notes,
        labels=torch.from_numpy(part.labels),
        left_out=part.left_out,
    )


def _part(entry: dict[Any, Any], text_features: bool) -> _Part:
    for key in ("id", "regression_labels", *(["text"] if text_features else [])):
        if key not in entry:
            refuse(f"key {key!r}", f"only {_names(entry)}", "use an MMSA file that has it")
    labels = read_labels(entry["regression_labels"])
    keys, left_out = _choose(entry, len(labels), text_features)
    columns = {"id": read_column("id", entry["id"], str)}
    if "raw_text" in entry and "raw_text" not in left_out:
        columns["raw_text"] = read_text(entry["raw_text"])
    if not keys and "raw_text" not in columns:
        missing = "key 'raw_text', 'audio' or 'vision', or another numeric array (N, L, D)"
        refuse(missing, f"only {_names(entry)}", "use an MMSA file that has it")
    frames = {name: read_frames(key, entry[key]) for name, key in keys.items()}
    rows = {"regression_labels": labels, **columns, **frames}
    counts = {key: len(column) for key, column in rows.items()}
    if len(set(counts.values())) > 1 or not len(labels):
        refuse("one row per utterance in every key", f"{counts} rows", "the file is damaged; get it again")
    declared = {name: read_lengths(keys[name], entry, values.shape) for name, values in frames.items()}
    held = {name: Frames(values, declared[name]) for name, values in frames.items()}
    return _Part(keys, columns, held, labels, left_out)


def _choose(entry: dict[Any, Any], rows: int, text_features: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Map each modality to its key, and every other key to why it is left out (columns and lengths excepted)."""
    chosen = {key: key for key in FEATURES if key in entry}
    reasons: list[tuple[str, str]] = []
    if text_features or ("raw_text" not in entry and _is_sequence(entry.get("text"), rows)):
        chosen[TEXT_FEATURES] = "text"
        if "raw_text" in entry:
            reasons.append(("raw_text", "the words; the features computed from them are read instead"))
    lengths = {f"{key}_lengths": key for key in entry if isinstance(key, str)}
    known = {*_COLUMNS, *chosen.values()}
    for key in sorted((key for key in entry if key not in known and key not in lengths), key=kind):
        reason = _obstacle(key, entry[key], rows)
        if reason is None:
            chosen[key] = key
        else:
            reasons.append((key, reason))
    unused = sorted(key for key in lengths.keys() & entry.keys() - known if lengths[key] not in chosen.values())
    reasons += [(key, f"lengths of {_called(lengths[key])}, which is not read") for key in unused]
    left_out = {_called(key): reason for key, reason in reasons[:_SHOWN]}
    if len(reasons) > _SHOWN:
        left_out[f"{len(reasons) - _SHOWN} more keys"] = "for similar reasons"
    return chosen, left_out


def _is_sequence(value: Any, rows: int) -> bool:
    return isinstance(value, Array) and _obstacle("", value, rows, any_name=True) is None


def _obstacle(key: Any, value: Any, rows: int, *, any_name: bool = False) -> str | None:
    """Return why a key is not a modality, or None if it is one."""
    if key == "text_bert":
        return "BERT token ids; the text encoder's own tokenizer reads raw_text instead"
    array = value.content if isinstance(value, Array) else None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        return f"not an array of numbers but {_described(value, rows)}"
    if array.ndim != 3 or not array.size or len(array) != rows:
        advice = "; as (N, 1, D) it would be one frame per sample" if array.ndim == 2 and len(array) == rows else ""
        return f"not an array (N, L, D) of N = {rows} samples but {_described(value, rows)}{advice}"
    if any_name:
        return None
    if key == "text":
        return "features computed from the words; raw_text is read instead (--text_features reads the features)"
    if not is_name(key) or key == TEXT_FEATURES:
        return f"not a valid modality name; rename the key {_shown(key)}"
    return None


def _described(value: Any, rows: int) -> str:
    return kind(value).replace(f"({rows},", "(N,")


def _called(key: Any) -> str:
    return key if isinstance(key, str) and key.isidentifier() and len(key) <= 60 else _shown(key)


def _shown(key: Any) -> str:
    return kind(key).removeprefix("str ")


def _check_agreement(parts: Mapping[str, _Part]) -> None:
    held = {name: part.modalities for name, part in parts.items()}
    if len(set(held.values())) > 1:
        refuse("the same modalities in every split", str(held), "use files from one source")
    for modality in parts[SPLITS[0]].frames:
        widths = {name: part.frames[modality].values.shape[2] for name, part in parts.items()}
        if len(set(widths.values())) > 1:
            refuse(f"{modality} of the same width in every split", str(widths), "use files from one source")


def _names(mapping: dict[Any, Any]) -> str:
    return ", ".join(map(_shown, list(mapping)[:_SHOWN])) or "nothing"
