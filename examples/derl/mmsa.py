"""Read the pickles of MMSA (`unaligned_50.pkl`, `aligned_50.pkl`) without running anything they hold.

A pickle is a program. This reader refuses every global except the few that spell numpy arrays and plain
containers, and answers those with stand-ins of its own, so no constructor of numpy ever meets the file's
arguments unchecked.
"""

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from derl.split import DataError, Split

SPLITS = ("train", "valid", "test")
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
        splits = _splits(_load(Path(path)))
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


# --- the layout: from plain data to splits ---


def _splits(content: Any) -> dict[str, Split]:
    if not isinstance(content, dict):
        _refuse("a dict of the splits train, valid and test", type(content).__name__, "is it an MMSA file?")
    splits = {}
    for name in SPLITS:
        if name not in content:
            _refuse(f"split {name!r}", f"only {_names(content)}", "use a file with the official split")
        if not isinstance(content[name], dict):
            _refuse(f"split {name!r} to be a dict", type(content[name]).__name__, "is it an MMSA file?")
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
        _refuse(f"key {key}", f"only {_names(entry)}", "use an MMSA file that has it")
    labels = _labels(entry["regression_labels"])
    columns = {key: _column(key, entry[key], str) for key in ("id", "raw_text") if key in entry}
    frames = {key: _frames(key, entry[key]) for key in FEATURES if key in entry}
    rows = {"regression_labels": labels, **columns, **frames}
    counts = {key: len(column) for key, column in rows.items()}
    if len(set(counts.values())) > 1 or not len(labels):
        _refuse("one row per utterance in every key", f"{counts} rows", "the file is damaged; get it again")
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
        _refuse("the same modalities in every split", str(held), "use files from one source")
    for modality in splits[SPLITS[0]].features:
        widths = {name: split.features[modality].shape[2] for name, split in splits.items()}
        if len(set(widths.values())) > 1:
            _refuse(f"{modality} of one width in every split", str(widths), "use files from one source")


def _column(key: str, value: Any, *types: type) -> list[Any]:
    """Return as a list what is a list or an array `(N,)` of these types, bool not being an int."""
    values = _plain(value)
    names = " or ".join(kind.__name__ for kind in types)
    if not isinstance(values, list):
        _refuse(f"key {key!r} to be a list or array (N,) of {names}", _kind(value), "is it an MMSA file?")
    for row, item in enumerate(values):
        if type(item) not in types:
            _refuse(f"{names} in key {key!r}", f"{_kind(item)} in row {row}", f"convert it to {names}")
    return values


def _labels(value: Any) -> np.ndarray:
    labels = np.array(_column("regression_labels", value, float, int), dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(labels) <= LABEL_LIMIT))
    if wrong.size:
        found = f"{labels[wrong[0]]} in row {wrong[0]}"
        _refuse(f"regression_labels in [-{LABEL_LIMIT:g}, {LABEL_LIMIT:g}]", found, "rescale or drop the row")
    return labels.astype(np.float32)


def _frames(key: str, value: Any) -> np.ndarray:
    """Return a float32 copy `(N, L, D)`; a float64 beyond its range becomes infinite, for repair."""
    array = value.content if isinstance(value, _Array) else None
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
        _refuse(f"key {key!r} to be a numeric array (N, L, D)", _kind(value), "is it an MMSA file?")
    if not array.size:
        _refuse(f"frames in key {key!r}", _kind(value), "use an MMSA file that has them")
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
        _refuse(f"{name} of {rows} rows, as {key}", f"{len(lengths)}", "the file is damaged; get it again")
    for row, length in enumerate(lengths):
        if not 0 <= length <= limit:
            _refuse(f"{name} in 0 to {limit}", f"{length} in row {row}", "the file is damaged; get it again")
    return torch.tensor(lengths, dtype=torch.int64)


def _plain(value: Any) -> Any:
    """Return a list as it is and a one-dimensional array as a list; anything else stays."""
    if isinstance(value, _Array) and len(value.shape) == 1:
        return value.content if isinstance(value.content, list) else value.content.tolist()
    return value


def _kind(value: Any) -> str:
    """Describe a value of the file without spelling it out: a nested one may have no end."""
    if isinstance(value, str):
        return f"str {value[:60]!r}"
    return f"array {value.dtype} {value.shape}" if isinstance(value, _Array) else type(value).__name__


def _names(mapping: dict[Any, Any]) -> str:
    return ", ".join(_kind(key).removeprefix("str ") for key in list(mapping)[:20]) or "nothing"


def _refuse(expected: str, found: str, remedy: str) -> NoReturn:
    raise DataError(f"expected {expected}, found {found}; {remedy}.")


# --- the pickle: from bytes to plain data ---


def _load(path: Path) -> Any:
    try:
        if not path.stat().st_size:
            _refuse("a pickle", "an empty file", "get the file again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            _inspect(stream)
            stream.seek(0)
            return _Unpickler(stream).load()
    except OSError as error:
        _refuse("a file that can be read", str(error.strerror or error), "check the path")


_MARK, _TUPLE, _OTHER = "mark", "tuple", "other"
_REFUSED_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


def _inspect(stream: mmap.mmap) -> None:
    """Walk the opcodes before they run, and refuse what could exhaust memory, time or the C stack.

    Those are indices that would blow up the memo table, and tuples as dict keys or set members, whose hash
    recurses through them. Also refused: persistent ids, extension codes and out-of-band buffers.
    """
    stack: list[str] = []
    memo: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name in _REFUSED_OPCODES:
                _refuse("a pickle of plain data and numpy arrays", f"opcode {name}", "do not trust this file")
            if name == "MEMOIZE" or name.endswith("PUT"):
                index = len(memo) if name == "MEMOIZE" else argument
                if not 0 <= index <= len(memo) + 1:
                    _refuse("memo indices in order", f"{index} after {len(memo)}", "do not trust this file")
                memo[index] = stack[-1]
            elif name.endswith("GET"):
                stack.append(memo[argument])
            else:
                taken = _take(stack, opcode)
                if _TUPLE in _hashed(name, taken):
                    _refuse("plain dict keys and set members", "a tuple", "do not trust this file")
                stack.extend(_given(name, taken, opcode))
    except DataError:
        raise
    except Exception as error:
        if stream.tell() >= len(stream):
            _refuse("a whole pickle", f"its end too early ({error})", "it is truncated; get the file again")
        if stream[0] != pickle.PROTO[0] and stream.tell() < 100:
            _refuse("a pickle", "bytes that are not one", "check the path, or get the file again")
        found = f"a break at byte {stream.tell()}, {type(error).__name__}: {error}"
        _refuse("a sound pickle", found, "it is damaged; get the file again")


def _take(stack: list[str], opcode: Any) -> list[str]:
    """Pop what an opcode consumes, lowest first; a slice between mark and top comes without the mark."""
    needs = opcode.stack_before
    if pickletools.markobject not in needs:
        return [stack.pop() for _ in needs][::-1]
    items = []
    while (item := stack.pop()) != _MARK:
        items.append(item)
    return [stack.pop() for _ in range(needs.index(pickletools.markobject))][::-1] + items[::-1]


def _hashed(name: str, taken: list[str]) -> list[str]:
    """Return the items an opcode hashes, of those it takes."""
    match name:
        case "SETITEM" | "SETITEMS":
            return taken[1::2]
        case "DICT":
            return taken[::2]
        case "ADDITEMS" | "FROZENSET":
            return taken
    return []


def _given(name: str, taken: list[str], opcode: Any) -> list[str]:
    if name == "DUP":
        return taken * 2
    if name == "MARK":
        return [_MARK]
    return [_TUPLE if "TUPLE" in name else _OTHER] * len(opcode.stack_after)


class _Unpickler(pickle.Unpickler):
    """Unpickles plain data; a numpy array comes out as an `_Array`."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            found = f"{module}.{name}"[:200]
            _refuse("a pickle of plain data and numpy arrays", f"global {found}", "do not trust this file")


class _Callable:
    """What a global of the pickle turns into. It can be called and passed on, and never changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        _refuse("a pickle of plain data and numpy arrays", "a changed global", "do not trust this file")


class _Dtype:
    """Stands in for a numpy dtype: a kind, a size and a byte order, once `__setstate__` has told it."""

    __slots__ = ("dtype",)

    def __init__(self, spec: Any, align: Any = False, copy: Any = True) -> None:
        if not isinstance(spec, str) or not re.fullmatch(r"f[248]|[iu][1248]|b1|[US][0-9]{1,6}|O8?", spec):
            _refuse("arrays of numbers, bool or str", f"dtype {_kind(spec)}", "save the column as float or str")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: Any) -> None:
        _, order, *fields = state
        if order not in ("<", ">", "|", "=") or any(value is not None for value in fields[:3]):
            _refuse("arrays of numbers, bool or str", "a structured dtype", "save its columns apart")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands in for a numpy array: `content` is a view of the file's bytes, or a list where dtype is object."""

    __slots__ = ("content", "dtype", "shape")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self._set((0,), np.dtype("f4"), False, b"")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self._set(shape, dtype.dtype, fortran, content)

    def _set(self, shape: Any, dtype: np.dtype, fortran: Any, content: Any) -> None:
        """Check that the content fills the shape before anything is built."""
        whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not whole or len(shape) > 8:
            _refuse("arrays of at most 8 sizes >= 0", _kind(shape), "the file is damaged; get it again")
        of_objects = dtype.kind == "O"
        if not isinstance(content, list if of_objects else (bytes, bytearray)):
            _refuse("the bytes of an array", type(content).__name__, "the file is damaged; get it again")
        expected = math.prod(shape) * (1 if of_objects else dtype.itemsize)
        if len(content) != expected or not dtype.itemsize:
            unit = "objects" if of_objects else "bytes"
            found = f"{len(content)} {unit} for {dtype} {shape}"
            _refuse(f"an array of {expected} {unit}", found, "the file is damaged; get it again")
        self.shape, self.dtype = shape, dtype
        if of_objects:
            self.content = content
        else:
            flat = np.frombuffer(content, dtype=dtype) if expected else np.empty(0, dtype=dtype)
            self.content = flat.reshape(shape, order="F" if fortran else "C")


_NDARRAY = _Callable(lambda *args: _refuse("numpy's own pickles", "a call of ndarray", "save it again"))


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> _Array:
    if kind is not _NDARRAY:
        _refuse("arrays of numpy.ndarray", "another class", "save them as plain arrays")
    return _Array()


def _from_buffer(content: Any, dtype: _Dtype, shape: Any, order: str, axis_order: Any = None) -> _Array:
    if order not in ("C", "F", "K") or axis_order is not None:
        _refuse("arrays in C or Fortran order", f"order {_kind(order)}", "save contiguous arrays")
    array = _Array()
    array._set(shape, dtype.dtype, order == "F", content)
    return array


def _scalar(dtype: _Dtype, content: Any) -> Any:
    array = _Array()
    array._set((1,), dtype.dtype, False, content)
    return _plain(array)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        _refuse("bytes spelled in latin1", _kind(encoding), "save with pickle protocol 4")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    if args:
        _refuse("an empty call of bytes", "arguments", "do not trust this file")
    return b""


def _bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(_encode(content, encoding) if isinstance(content, str) else _checked(content, bytes))


def _set(items: Any) -> set[Any]:
    return {_checked(item, str, bytes, int, float, type(None)) for item in _checked(items, list)}


def _frozenset(items: Any) -> frozenset[Any]:
    return frozenset(_set(items))


def _checked(value: Any, *types: type) -> Any:
    if not isinstance(value, types):
        _refuse(f"{types[0].__name__} in a container", type(value).__name__, "do not trust this file")
    return value


_GLOBALS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Callable(_Dtype),
    ("_codecs", "encode"): _Callable(_encode),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _Callable(_reconstruct)
    _GLOBALS[f"{_core}.multiarray", "scalar"] = _Callable(_scalar)
    _GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Callable(_from_buffer)
for _builtins in ("builtins", "__builtin__"):  # protocols 0 to 2 use the old name
    _GLOBALS[_builtins, "bytes"] = _Callable(_bytes)
    _GLOBALS[_builtins, "bytearray"] = _Callable(_bytearray)
    _GLOBALS[_builtins, "set"] = _Callable(_set)
    _GLOBALS[_builtins, "frozenset"] = _Callable(_frozenset)
