"""Stand-ins for NumPy's arrays and plain containers in a pickle: they check what the file gives them."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import numpy as np

from derl.data.foreign import Foreign
from derl.data.formats import WRITER
from derl.data.split import DataError

ESCAPE = "surrogateescape"  # keeps bytes of Python 2 that are no text
SMALLER = f"take what is not needed out of the file, save arrays rather than nested lists, or {WRITER}"
_COPIED = 2**18  # bytes that all calls together may copy, and one more for every byte of the file
_MEMBER = 100  # bytes of a set per member
_budget: ContextVar[tuple[int, int]] = ContextVar("bytes that calls may copy, and have copied", default=(0, 0))


@contextmanager
def copying(size: int) -> Iterator[None]:
    """Limit what the calls in a pickle of this size copy, since each may copy the same bytes again."""
    token = _budget.set((_COPIED + size, 0))
    try:
        yield
    finally:
        _budget.reset(token)


def _charge(copied: int) -> None:
    limit, before = _budget.get()
    if before + copied > limit:
        expected = f"at most {limit} bytes copied by calls in a file of {limit - _COPIED} bytes"
        refuse(expected, "more", SMALLER)
    _budget.set((limit, before + copied))


class _Callable:
    """Stand-in for a global of the pickle: it can be called and passed on, but not changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        refuse("a pickle of plain data and numpy arrays", "a changed global", "the file is damaged; get it again")


class _Dtype:
    """Stand-in for a NumPy dtype: a kind, a size and, set by ``__setstate__``, a byte order.

    ``dtype`` is None for one that is neither numbers, bool, text nor object; ``name`` says what it is.
    """

    __slots__ = ("dtype", "name")

    def __init__(self, spec: Any, align: Any = False, copy: Any = True) -> None:
        plain = isinstance(spec, str) and re.fullmatch(r"f[248]|[iu][1248]|b1|[US][0-9]{1,6}|O8?", spec)
        self.dtype = np.dtype(spec) if plain else None
        self.name = f"dtype {kind(spec)}"

    def __setstate__(self, state: Any) -> None:
        _, order, *fields = state
        if order not in ("<", ">", "|", "=") or any(value is not None for value in fields[:3]):
            self.dtype, self.name = None, "a structured dtype"
        if self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(order)


class Array:
    """Stand-in for a NumPy array.

    ``content`` is a view of the file's bytes, a list for dtype object, or None where the dtype cannot be read.
    """

    __slots__ = ("content", "dtype", "shape")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self._set((0,), _Dtype("f4"), False, b"")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self._set(shape, dtype, fortran, content)

    def _set(self, shape: Any, spec: _Dtype, fortran: Any, content: Any) -> None:
        """Check that the content fills the shape before building anything."""
        whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
        if not whole or len(shape) > 8:
            refuse("arrays of at most 8 sizes >= 0", kind(shape), "the file is damaged; get it again")
        dtype = spec.dtype if isinstance(spec, _Dtype) else None
        if dtype is None:
            self.shape, self.dtype, self.content = shape, kind(spec), None
            return
        if isinstance(content, str):  # of Python 2
            _charge(len(content))
            content = content.encode("utf-8", ESCAPE)
        of_objects = dtype.kind == "O"
        if not isinstance(content, list if of_objects else (bytes, bytearray)):
            refuse("the bytes of an array", type(content).__name__, "the file is damaged; get it again")
        expected = math.prod(shape) * (1 if of_objects else dtype.itemsize)
        if len(content) != expected or not dtype.itemsize:
            unit = "objects" if of_objects else "bytes"
            found = f"{len(content)} {unit} for {dtype} {shape}"
            refuse(f"an array of {expected} {unit}", found, "the file is damaged; get it again")
        self.shape, self.dtype = shape, dtype
        self.content: Any
        if of_objects:
            self.content = content
        else:
            flat = np.frombuffer(content, dtype=dtype) if expected else np.empty(0, dtype=dtype)
            self.content = flat.reshape(shape, order="F" if fortran else "C")


_NDARRAY = _Callable(lambda *args: refuse("numpy's own pickles", "a call of ndarray", "save it again"))


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> "Array | Foreign":
    if isinstance(kind, type) and issubclass(kind, Foreign):
        return kind()
    if kind is not _NDARRAY:
        refuse("arrays of numpy.ndarray", "another class", "save them as plain arrays")
    return Array()


def _from_buffer(content: Any, dtype: _Dtype, shape: Any, order: str, axis_order: Any = None) -> Array:
    array = Array()
    array._set(shape, dtype, order == "F", content)
    moved = axis_order is not None
    known = isinstance(axis_order, tuple) and all(type(axis) is int for axis in axis_order)
    if order not in ("C", "F", "K") or (moved and not (known and sorted(axis_order) == list(range(len(shape))))):
        refuse("arrays in C or Fortran order, or with their axes moved", f"order {kind(order)}", "save them again")
    if moved and order == "K" and isinstance(array.content, np.ndarray):  # NumPy 2.3 and later
        array.content = array.content.transpose(axis_order)
        array.shape = array.content.shape
    return array


def _scalar(dtype: _Dtype, content: Any) -> Any:
    array = Array()
    array._set((1,), dtype, False, content)
    _charge(len(content))
    return array if array.content is None else plain(array)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        refuse("bytes spelled in latin1", kind(encoding), "save with pickle protocol 4")
    _charge(len(text))
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    if args:
        refuse("an empty call of bytes", "arguments", "the file is damaged; get it again")
    return b""


def _bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    if isinstance(content, str):
        return bytearray(_encode(content, encoding))
    _charge(len(_checked(content, bytes)))
    return bytearray(content)


def _set(items: Any, make: type[Any] = set) -> Any:
    _charge(_MEMBER * len(_checked(items, list)))
    plain = all(isinstance(item, (str, bytes, int, float, type(None))) for item in items)
    return make(items) if plain else Foreign()  # the hash of anything else may recurse


def _frozenset(items: Any) -> Any:
    return _set(items, frozenset)


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        refuse(f"{kind.__name__} in a container", type(value).__name__, "the file is damaged; get it again")
    return value


GLOBALS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Callable(_Dtype),
    ("_codecs", "encode"): _Callable(_encode),
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _Callable(_reconstruct)
    GLOBALS[f"{_core}.multiarray", "scalar"] = _Callable(_scalar)
    GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Callable(_from_buffer)
for _builtins in ("builtins", "__builtin__"):  # protocols 0 to 2 use the old name
    GLOBALS[_builtins, "bytes"] = _Callable(_bytes)
    GLOBALS[_builtins, "bytearray"] = _Callable(_bytearray)
    GLOBALS[_builtins, "set"] = _Callable(_set)
    GLOBALS[_builtins, "frozenset"] = _Callable(_frozenset)


def plain(value: Any) -> Any:
    """Return a one-dimensional array as a list, bytes in it as text, and anything else unchanged."""
    if not isinstance(value, Array) or len(value.shape) != 1 or value.content is None:
        return value
    if isinstance(value.content, list):
        return value.content
    items = value.content.tolist()
    return [item.decode("utf-8", ESCAPE) for item in items] if value.dtype.kind == "S" else items


def kind(value: Any) -> str:
    """Describe a value of the file without printing it, since nested values can be endless."""
    if isinstance(value, str):
        return f"str {value[:60]!r}"
    if isinstance(value, Foreign):
        return value.what
    if isinstance(value, _Dtype):
        return value.name
    if isinstance(value, (type, _Callable)):
        return "a class or function"
    return f"array {value.dtype} {value.shape}" if isinstance(value, Array) else type(value).__name__


def remedy(value: Any, otherwise: str) -> str:
    """Return what to do about a value of the file that cannot be used."""
    return value.remedy if isinstance(value, Foreign) else otherwise


def refuse(expected: str, found: str, remedy: str) -> NoReturn:
    raise DataError(f"expected {expected}, found {found}; {remedy}.")
