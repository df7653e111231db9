"""Read a pickle of plain data and NumPy arrays without running any code in it.

A pickle is a program. This reader refuses every global except the few that NumPy arrays and plain containers need, and
a few kinds of data that it cannot read. It replaces the first with stand-ins that check the file's arguments before
NumPy sees them, and the second with :class:`Foreign`, which ignores them.
"""

import math
import mmap
import pickle
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from derl.data.foreign import Foreign, foreign
from derl.data.formats import copied_as_text, recognize
from derl.data.split import DataError


def load_pickle(path: Path) -> Any:
    """Read a pickle of protocol 0 to 5, of Python 2 or 3; arrays are returned as :class:`Array`.

    Raises:
        DataError: The file cannot be read, is not a complete pickle, or names anything but data. Damage can also raise
            other exceptions, which the caller must turn into a DataError.
    """
    try:
        if not path.stat().st_size:
            refuse("a pickle", "an empty file", "get the file again")
        other = recognize(path)
        if other is not None:
            refuse("a pickle", *other)
        try:
            return _load(path)
        except OSError:
            raise
        except Exception as error:
            if not copied_as_text(path):
                raise
            found = "one in which every line ends in CR LF, as after a copy as text"
            remedy = "copy it again as binary (in git: '*.pkl binary' in .gitattributes)"
            raise DataError(f"expected an intact pickle, found {found}; {remedy}.") from error
    except OSError as error:
        refuse("a file that can be read", str(error.strerror or error), "check the path")


def _load(path: Path) -> Any:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        _inspect(stream)
        stream.seek(0)
        # text of Python 2 is bytes in any encoding, arrays included; utf-8 with escapes keeps them all
        return _Unpickler(stream, encoding="utf-8", errors=_ESCAPE).load()


_ESCAPE = "surrogateescape"


_MARK, _TUPLE, _TEXT, _OTHER = "mark", "tuple", "text", "other"
_MOST_CONTAINERS = 10_000  # an MMSA file has a few hundred; an empty set takes 1 byte of the file and 216 of memory
_SCALAR = 5  # bytes per tuple or call: where lists hold NumPy's scalars, each takes one of both and at least 11 bytes
_MOST_NUMBER_KEYS = 1_000  # dict keys and set members other than text: a file can make their hashes collide
_SMALL = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE"}
_CONTAINERS = {
    *("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "EMPTY_TUPLE", "LIST", "DICT"),
    *("FROZENSET", "BYTEARRAY8", "NEWOBJ", "OBJ", "INST", "NEWOBJ_EX"),
}
_REFUSED_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


def _inspect(stream: mmap.mmap) -> None:
    """Check the opcodes before they run, and refuse those that could exhaust memory, time or the C stack.

    Refused are memo indices that would make the memo table huge, tuples as dict keys or set members (their hash
    recurses), too many containers, and too many numeric keys. Persistent ids, extension codes and out-of-band buffers
    are refused as well.
    """
    most_small = _MOST_CONTAINERS + len(stream) // _SCALAR
    stack: list[str] = []
    memo: dict[int, str] = {}
    containers = small = number_keys = 0
    try:
        for opcode, argument in _opcodes(stream):
            name = opcode.name
            if name in _REFUSED_OPCODES:
                refuse(
                    "a pickle of plain data and numpy arrays", f"opcode {name}", "save plain arrays with pickle.dump"
                )
            if name == "MEMOIZE" or name.endswith("PUT"):
                index = len(memo) if name == "MEMOIZE" else argument
                if not 0 <= index <= len(memo) + 1:
                    refuse("memo indices in order", f"{index} after {len(memo)}", "it is damaged; get it again")
                memo[index] = stack[-1]
            elif name.endswith("GET"):
                stack.append(memo[argument])
            else:
                taken = _take(stack, opcode)
                hashed = _hashed(name, taken)
                if _TUPLE in hashed:
                    refuse("plain dict keys and set members", "a tuple", "use text as keys")
                number_keys += len(hashed) - hashed.count(_TEXT)
                containers += name in _CONTAINERS
                small += name in _SMALL
                if containers > _MOST_CONTAINERS or small > most_small or number_keys > _MOST_NUMBER_KEYS:
                    most = f"at most {_MOST_CONTAINERS} containers and {_MOST_NUMBER_KEYS} keys that are not text"
                    refuse(most, "more", "save arrays rather than nested lists, and text as keys")
                stack.extend(_given(name, taken, opcode))
    except DataError:
        raise
    except Exception as error:
        if stream.tell() >= len(stream):
            refuse("a whole pickle", f"its end too early ({error})", "it is truncated; get the file again")
        if stream[0] != pickle.PROTO[0] and stream.tell() < 100:
            refuse("a pickle", "bytes that are not one", "check the path, or get the file again")
        found = f"an error at byte {stream.tell()}, {type(error).__name__}: {error}"
        refuse("an intact pickle", found, "it is damaged; get the file again")


def _opcodes(stream: mmap.mmap) -> Iterator[tuple[Any, Any]]:
    """Yield each opcode and its argument, as pickletools.genops does, which cannot read non-ASCII text of Python 2."""
    name = ""
    while name != "STOP":
        code = stream.read(1)
        opcode = pickletools.code2op.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError("pickle exhausted before seeing STOP" if not code else f"opcode {code!r} unknown")
        name = opcode.name
        if name == "STRING":
            argument: Any = stream.readline()
        else:
            argument = None if opcode.arg is None else opcode.arg.reader(stream)
        yield opcode, argument


def _take(stack: list[str], opcode: Any) -> list[str]:
    """Pop what an opcode consumes, lowest first; a slice down to a mark is returned without the mark."""
    needs = opcode.stack_before
    if pickletools.markobject not in needs:
        return [stack.pop() for _ in needs][::-1]
    items = []
    while (item := stack.pop()) != _MARK:
        items.append(item)
    return [stack.pop() for _ in range(needs.index(pickletools.markobject))][::-1] + items[::-1]


def _hashed(name: str, taken: list[str]) -> list[str]:
    """Return those of an opcode's arguments that it hashes."""
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
    is_text = any(part in name for part in ("UNICODE", "STRING", "BYTES"))
    return [_TUPLE if "TUPLE" in name else _TEXT if is_text else _OTHER] * len(opcode.stack_after)


class _Unpickler(pickle.Unpickler):
    """Unpickles plain data; NumPy arrays are returned as ``Array``."""

    def find_class(self, module: str, name: str) -> Any:
        known = _GLOBALS.get((module, name)) or foreign(module, name)
        if known is None:
            found = f"{module}.{name}"[:200]
            refuse("a pickle of plain data and numpy arrays", f"global {found}", "do not trust this file")
        return known


class _Callable:
    """Stand-in for a global of the pickle: it can be called and passed on, but not changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        refuse("a pickle of plain data and numpy arrays", "a changed global", "do not trust this file")


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
        dtype = spec.dtype
        if dtype is None:
            self.shape, self.dtype, self.content = shape, spec.name, None
            return
        if isinstance(content, str):  # of Python 2
            content = content.encode("utf-8", _ESCAPE)
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
    return array if array.content is None else plain(array)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        refuse("bytes spelled in latin1", kind(encoding), "save with pickle protocol 4")
    return text.encode("latin1")


def _bytes(*args: Any) -> bytes:
    if args:
        refuse("an empty call of bytes", "arguments", "do not trust this file")
    return b""


def _bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(_encode(content, encoding) if isinstance(content, str) else _checked(content, bytes))


def _set(items: Any) -> set[Any]:
    return {_checked(item, str, bytes, int, float, type(None)) for item in _checked(items, list)}


def _frozenset(items: Any) -> frozenset[Any]:
    return frozenset(_set(items))


def _checked(value: Any, *types: type) -> Any:
    if not isinstance(value, types):
        refuse(f"{types[0].__name__} in a container", type(value).__name__, "do not trust this file")
    return value


_GLOBALS = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Callable(_Dtype),
    ("_codecs", "encode"): _Callable(_encode),
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    _GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _Callable(_reconstruct)
    _GLOBALS[f"{_core}.multiarray", "scalar"] = _Callable(_scalar)
    _GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Callable(_from_buffer)
for _builtins in ("builtins", "__builtin__"):  # protocols 0 to 2 use the old name
    _GLOBALS[_builtins, "bytes"] = _Callable(_bytes)
    _GLOBALS[_builtins, "bytearray"] = _Callable(_bytearray)
    _GLOBALS[_builtins, "set"] = _Callable(_set)
    _GLOBALS[_builtins, "frozenset"] = _Callable(_frozenset)


def plain(value: Any) -> Any:
    """Return a one-dimensional array as a list, bytes in it as text, and anything else unchanged."""
    if not isinstance(value, Array) or len(value.shape) != 1 or value.content is None:
        return value
    if isinstance(value.content, list):
        return value.content
    items = value.content.tolist()
    return [item.decode("utf-8", _ESCAPE) for item in items] if value.dtype.kind == "S" else items


def kind(value: Any) -> str:
    """Describe a value of the file without printing it, since nested values can be endless."""
    if isinstance(value, str):
        return f"str {value[:60]!r}"
    if isinstance(value, Foreign):
        return value.what
    return f"array {value.dtype} {value.shape}" if isinstance(value, Array) else type(value).__name__


def remedy(value: Any, otherwise: str) -> str:
    """Return what to do about a value of the file that cannot be used."""
    return value.remedy if isinstance(value, Foreign) else otherwise


def refuse(expected: str, found: str, remedy: str) -> NoReturn:
    raise DataError(f"expected {expected}, found {found}; {remedy}.")
