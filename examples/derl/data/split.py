"""One split of a sentiment data set: text, frames and labels, checked on creation, and stored as safetensors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from derl.data.absence import Missing, count_frames, count_text
from derl.data.files import whole
from modx._modalities import is_name

SPLITS = ("train", "valid", "test")
_FORMAT = "derl-splits-1"


class DataError(ValueError):
    """Unusable data. The message says what was expected, what was found, and what to do."""


@dataclass(frozen=True, eq=False)
class Split:
    """A split of n utterances, with text, features, or both.

    Attributes:
        ids: n ids, not necessarily distinct.
        text: n transcripts, each None or blank where an utterance has none; or None if no utterance has one.
        features: modality -> ``(n, L, D)`` float32. NaN stands for a value that was not observed, a frame of NaN for a
            frame that was not. Frames past an utterance's length are padding.
        lengths: modality -> ``(n,)`` int64, number of frames per utterance, 0 to L; 0 if it lacks the modality.
        labels: ``(n,)`` float32, finite.
        left_out: key of the source file that was not read -> the reason.
        notes: what was decided when the source file was read.
        classes: names of the classes whose numbers are the labels; empty if the labels are no classes.

    Raises:
        DataError: A field has the wrong type, shape or dtype, or holds infinity or, in the labels, NaN.
    """

    ids: list[str]
    text: list[str | None] | None
    features: dict[str, Tensor]
    lengths: dict[str, Tensor]
    labels: Tensor
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("features", "lengths"):
            if not isinstance(getattr(self, name), dict):
                found = type(getattr(self, name)).__name__
                raise DataError(f"Split expected {name} to be a dict by modality, found {found}; pass {{}} for none.")
        _check_strings("ids", self.ids, len(self.ids), (str,))
        if not self.ids:
            raise DataError("Split expected at least one row, found none; was the split filtered empty?")
        if not self.modalities:
            raise DataError("Split expected text or features, found neither; pass at least one modality.")
        if self.text is not None:
            _check_strings("text", self.text, len(self.ids), (str, type(None)))
        if self.lengths.keys() != self.features.keys():
            raise DataError(
                f"Split expected lengths for the modalities of features, {tuple(self.features)}, found "
                f"{tuple(self.lengths)}; give each modality the real length of every row."
            )
        for name in self.features:
            check_name("Split", name)
        _check_tensor("labels", self.labels, (len(self.ids),), torch.float32)
        _check_rows("labels", ~self.labels.isfinite(), "nan or infinity", "correct it, or leave the row out")
        for name, frames in self.features.items():
            _check_tensor(f"features[{name!r}]", frames, (len(self.ids), None, None), torch.float32)
            infinite = frames.isinf().flatten(1).any(1)
            _check_rows(f"features[{name!r}]", infinite, "infinity", "put NaN where a value is missing")
            _check_tensor(f"lengths[{name!r}]", self.lengths[name], (len(self.ids),), torch.int64)
            wrong = (self.lengths[name] < 0) | (self.lengths[name] > frames.shape[1])
            if wrong.any():
                row = int(wrong.nonzero()[0])
                raise DataError(
                    f"Split expected lengths[{name!r}] in 0 to {frames.shape[1]}, the frames stored, found "
                    f"{int(self.lengths[name][row])} in row {row}; count the real frames of that row."
                )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities held, text first."""
        return (("text",) if self.text is not None else ()) + tuple(self.features)

    def missing(self) -> dict[str, Missing]:
        """Count what each modality lacks."""
        found = {} if self.text is None else {"text": count_text(self.text)}
        for name, frames in self.features.items():
            rows = zip(frames, self.lengths[name].tolist(), strict=True)
            found[name] = sum((count_frames(row[:length]) for row, length in rows), Missing())
        return found


def save_splits(splits: Mapping[str, Split], path: str | Path, *, source: str = "") -> None:
    """Write splits to one safetensors file, atomically, with ``source`` in its metadata.

    Raises:
        DataError: The file cannot be written.
    """
    path = Path(path)
    tensors, strings = {}, {}
    for name, split in splits.items():
        tensors[f"{name}/labels"] = split.labels
        for modality, frames in split.features.items():
            tensors[f"{name}/features/{modality}"] = frames
            tensors[f"{name}/lengths/{modality}"] = split.lengths[modality]
        strings[name] = {
            "ids": split.ids,
            "text": split.text,
            "modalities": list(split.features),
            "left_out": split.left_out,
            "notes": split.notes,
            "classes": split.classes,
        }
    metadata = {"format": _FORMAT, "source": source, "splits": json.dumps(strings)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as draft:
            save_file(_apart(tensors), draft, metadata)
    except Exception as error:
        raise DataError(
            f"{path}: expected a place to write the splits to, found {type(error).__name__}: {error}; choose "
            "a writable folder with free space."
        ) from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy a tensor that shares memory with an earlier one, which safetensors refuses."""
    apart: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        known = {other.untyped_storage().data_ptr() for other in apart.values()}
        own = tensor.contiguous()
        apart[key] = own.clone() if own.untyped_storage().data_ptr() in known else own
    return apart


def load_splits(path: str | Path) -> dict[str, Split]:
    """Read splits that ``save_splits`` wrote.

    Raises:
        DataError: The file is missing, truncated, or was not written by ``save_splits``.
    """
    return _read(path)[1]


def read_source(path: str | Path) -> str:
    """Read the ``source`` that ``save_splits`` stored, without the splits; raises what ``load_splits`` raises."""
    return _read(path, contents=False)[0]


def _read(path: str | Path, *, contents: bool = True) -> tuple[str, dict[str, Split]]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise DataError(f"metadata format is {metadata.get('format')!r}, not {_FORMAT!r}")
            strings = json.loads(metadata["splits"]) if contents else {}
            return metadata["source"], {name: _split(file, name, entry) for name, entry in strings.items()}
    except Exception as error:
        raise DataError(
            f"{path}: expected splits written by save_splits, found {type(error).__name__}: {error}; delete "
            "the file and convert the pickle again, or pass the right path."
        ) from error


def _split(file: Any, name: str, entry: dict[str, Any]) -> Split:
    return Split(
        ids=entry["ids"],
        text=entry["text"],
        features={m: file.get_tensor(f"{name}/features/{m}") for m in entry["modalities"]},
        lengths={m: file.get_tensor(f"{name}/lengths/{m}") for m in entry["modalities"]},
        labels=file.get_tensor(f"{name}/labels"),
        left_out=entry["left_out"],
        notes=entry["notes"],
        classes=entry["classes"],
    )


def check_name(owner: str, name: Any) -> None:
    """Refuse a modality name that models cannot use, before anything is trained.

    Raises:
        DataError: The name cannot be used; the message says why.
    """
    if not is_name(name):
        raise DataError(
            f"{owner} expected names of modalities without a '.' and that torch.nn.ModuleDict and ParameterDict do not "
            f"use, found {name!r}; rename that column or key."
        )


def check_text(owner: str, name: str, text: str) -> None:
    """Refuse text with half an emoji, which tokenizers and files cannot hold.

    Raises:
        DataError: The text cannot be encoded.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{owner} expected {name} to be text that UTF-8 can encode, found half a character (such as half an emoji) "
            f"at position {error.start}: {text[max(error.start - 10, 0) : error.end + 10]!r}; repair it with "
            "text.encode('utf-8', 'replace').decode()."
        ) from error


def _check_strings(name: str, values: Any, rows: int, kinds: tuple[type, ...]) -> None:
    if not isinstance(values, list) or len(values) != rows or not all(isinstance(value, kinds) for value in values):
        what = "str" if len(kinds) == 1 else "str or None"
        found = f"{type(values).__name__} of {len(values)} items"
        raise DataError(f"Split expected {name} to be a list of {rows} {what}, found {found}; convert it first.")
    for row, value in enumerate(values):
        if value is not None:
            check_text("Split", f"{name} in row {row}", value)


def _check_tensor(name: str, tensor: Any, shape: tuple[int | None, ...], dtype: torch.dtype) -> None:
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    found = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
    fits = (
        isinstance(tensor, Tensor)
        and tensor.dtype == dtype
        and tensor.ndim == len(shape)
        and all(got > 0 if size is None else got == size for size, got in zip(shape, tensor.shape, strict=True))
    )
    if not fits:
        raise DataError(f"Split expected {name} to be {dtype} ({sizes}), found {found}; convert it first.")


def _check_rows(name: str, wrong: Tensor, found: str, remedy: str) -> None:
    rows = wrong.nonzero()
    if len(rows):
        raise DataError(f"Split expected {name} without {found}, found one in row {int(rows[0])}; {remedy}.")
