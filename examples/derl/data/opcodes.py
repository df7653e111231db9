"""inspect: check the opcodes of a pickle before they run."""

import mmap
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any, NoReturn

from derl.data.pickled import SMALLER, refuse
from derl.data.split import DataError

_MARK, _TUPLE, _FLAT, _TEXT, _OTHER = "mark", "tuple", "flat tuple", "text", "other"
_MOST = {  # what a pickle may hold, and one more for every so many bytes of it
    "lists, dicts and objects": (25_000, 16),  # an empty dict takes 1 byte of the file and 64 of memory
    "sets": (10_000, 64),  # an empty one takes 216
    "tuples and calls": (10_000, 5),  # where lists hold NumPy's scalars, each takes one of both and at least 11 bytes
    "dict keys and set members that are not text": (5_000, None),  # a file can make their hashes collide
}
_LONGEST_KEY = 8  # items of a tuple as a key: each use hashes them
_SMALL = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE"}
_SETS = {"EMPTY_SET", "FROZENSET"}
_CONTAINERS = {
    *("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE", "LIST", "DICT"),
    *("BYTEARRAY8", "NEWOBJ", "OBJ", "INST", "NEWOBJ_EX"),
}
_REFUSED_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}


def inspect(stream: mmap.mmap) -> None:
    """Check the opcodes before they run, and refuse those that could exhaust memory, time or the C stack.

    Refused are memo indices that would make the memo table huge, long or nested tuples as dict keys or set members
    (their hash recurses), too many containers, and too many keys that are not text. Persistent ids, extension codes and
    out-of-band buffers are refused as well.
    """
    left = {what: base + len(stream) // (per or len(stream) + 1) for what, (base, per) in _MOST.items()}
    objects, sets, small, keys = _MOST
    stack: list[str] = []
    memo: dict[int, str] = {}
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
                    expected = f"tuples of at most {_LONGEST_KEY} items, none of them a tuple, as dict keys"
                    refuse(expected, "another tuple", f"use text as keys; {SMALLER}")
                left[keys] -= len(hashed) - hashed.count(_TEXT)
                left[objects] -= name in _CONTAINERS
                left[sets] -= name in _SETS
                left[small] -= name in _SMALL
                if min(left.values()) < 0:
                    _refuse_more(left, len(stream))
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


def _refuse_more(left: dict[str, int], size: int) -> NoReturn:
    what = min(left, key=left.__getitem__)
    base, per = _MOST[what]
    scaled = f" in a file of {size} bytes" if per else ""
    refuse(f"at most {base + (size // per if per else 0)} {what}{scaled}", "more", SMALLER)


def _opcodes(stream: mmap.mmap) -> Iterator[tuple[Any, Any]]:
    """Yield each opcode and its argument, as pickletools.genops does, which cannot read non-ASCII text of Python 2.

    A frame has to end where an opcode does: where it does not, Python's unpickler goes on at another byte than this.
    """
    name, frame_end = "", 0
    while name != "STOP":
        start = stream.tell()
        code = stream.read(1)
        opcode = pickletools.code2op.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError("pickle exhausted before seeing STOP" if not code else f"opcode {code!r} unknown")
        name = opcode.name
        if name == "STRING":
            argument: Any = stream.readline()
        else:
            argument = None if opcode.arg is None else opcode.arg.reader(stream)
        if start < frame_end and (name == "FRAME" or stream.tell() > frame_end):
            raise ValueError(f"{name} does not end within its frame")
        if name == "FRAME":
            frame_end = stream.tell() + argument
            if frame_end > len(stream):
                stream.seek(len(stream))
                raise ValueError("a frame is longer than the file")
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
    if "TUPLE" in name:
        flat = len(taken) <= _LONGEST_KEY and all(item in (_TEXT, _OTHER) for item in taken)
        return [_FLAT if flat else _TUPLE]
    is_text = any(part in name for part in ("UNICODE", "STRING", "BYTES"))
    return [_TEXT if is_text else _OTHER] * len(opcode.stack_after)
