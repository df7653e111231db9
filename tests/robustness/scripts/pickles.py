"""Give the reader of pickled features files that were damaged or made to attack it, and count how it answers.

python tests/robustness/scripts/pickles.py                # 10,000 files; prints a line for every kind
python tests/robustness/scripts/pickles.py --count 500 --seed 3
"""

import argparse
import contextlib
import encodings.raw_unicode_escape  # Python's own for protocol 0, imported at its first use
import encodings.unicode_escape  # noqa: F401
import gc
import os
import pickle
import pickletools
import random
import struct
import sys
import tempfile
import threading
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[3] / "examples"))  # as pytest's pythonpath does

from derl.data.foreign import Foreign
from derl.data.mmsa import read_mmsa
from derl.data.pickled import Array, _Callable, _Dtype
from derl.data.split import DataError
from derl.data.unpickle import load_pickle

SECONDS = 1.0  # of the processor per file, at most: what else the machine does is not the reader's
MEMORY = 2**20  # bytes a file beside its own size, at most; the files are of some kilobytes
PLAIN = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, bool, type(None), complex)
SILENT = {
    "open",
    "mmap.__new__",
    "builtins.id",
    "object.__getattr__",
    "object.__setattr__",
    "os.listdir",
    "sys._getframe",
}
DANGEROUS = ("posix", "nt", "os", "subprocess", "builtins", "importlib", "shutil", "numpy", "torch", "functools")
NAMES = ("system", "Popen", "eval", "exec", "__import__", "getattr", "rmtree", "load", "partial", "fromfile", "open")


def layout(draw: random.Random, protocol: int, **changes: Any) -> bytes:
    """A small file in the layout of MMSA."""

    def split(rows: int) -> dict[str, Any]:
        content = {
            "raw_text": np.array([f"word {row} é" for row in range(rows)], dtype=object),
            "id": [f"v$_${row}" for row in range(rows)],
            "audio": np.full((rows, 3, 2), draw.random(), np.float32),
            "audio_lengths": [3] * rows,
            "vision": np.asfortranarray(np.full((rows, 2, 2), draw.random())),
            "vision_lengths": np.full(rows, 2),
            "regression_labels": np.linspace(-3, 3, rows).astype(np.float32),
        }
        return content | changes

    return pickle.dumps({name: split(rows) for name, rows in (("train", 3), ("valid", 3), ("test", 3))}, protocol)


def cuts(data: bytes) -> list[int]:
    """Where opcodes begin."""
    return [place for _, _, place in pickletools.genops(data) if place]


def flip(draw: random.Random, protocol: int) -> bytes:
    data = bytearray(layout(draw, protocol))
    for _ in range(draw.randint(1, 16)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def truncate(draw: random.Random, protocol: int) -> bytes:
    data = layout(draw, protocol)
    return data[: draw.randrange(len(data))]


def shuffle_bytes(draw: random.Random, protocol: int) -> bytes:
    data = bytearray(layout(draw, protocol))
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(data))
        part = data[start : start + draw.randint(1, 64)]
        match draw.randrange(3):
            case 0:
                del data[start : start + len(part)]
            case 1:
                data[draw.randrange(len(data)) :] = part + data[draw.randrange(len(data)) :]
            case 2:
                data[start : start + len(part)] = draw.randbytes(len(part))
    return bytes(data)


def splice(draw: random.Random, protocol: int) -> bytes:
    """Opcodes of one file between those of another, perhaps of another protocol."""
    data, other = layout(draw, protocol), layout(draw, draw.randrange(6))
    start, end = sorted(draw.choices(cuts(other), k=2))
    at = draw.choice(cuts(data))
    return data[:at] + other[start:end] + data[draw.choice([at, draw.choice(cuts(data))]) :]


def gadget(draw: random.Random, protocol: int) -> bytes:
    """A call, or what leads to one, between two opcodes."""
    module, name = draw.choice(DANGEROUS), draw.choice(NAMES)
    found = f"c{module}\n{name}\n".encode()
    argument = draw.choice([b"(S'true'\nt", b")", b"(U\x04truet", b"(K\x01K\x02t", b"(lt"])
    attack = draw.choice(
        [
            found + argument + b"R",
            found + argument + b"\x81",
            found + argument + b"}\x92",
            b"(S'true'\ni" + module.encode() + b"\n" + name.encode() + b"\n",
            b"(" + found + b"S'true'\no",
            found + b"}U\x01aK\x01sb",
            b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93",
            b"\x82\x01",
            b"P1\n",
            b"U\x011Q",
            b"\x97",
            b"cnumpy\nndarray\n(K\x05\x85R",
            b"cnumpy\ndtype\nU\x04bad!\x85R",
            b"cnumpy\ndtype\n(U\x02f4\x89\x88tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"cnumpy._core.multiarray\n_reconstruct\ncbuiltins\nset\n(K\x00\x85U\x01bt\x87R",
        ]
    )
    data = layout(draw, protocol)
    at = draw.choice([*cuts(data), len(data) - 1])
    return data[:at] + attack + draw.choice([b"", b"0"]) + data[at:]


def bomb(draw: random.Random, protocol: int) -> bytes:
    """What looks small and would grow: memo indices, doublings, nesting, declared lengths."""
    data = layout(draw, protocol)
    at, big = draw.choice(cuts(data)), draw.choice([2**31 - 1, 2**32 - 1, 10**9])
    attack = draw.choice(
        [
            b"r" + struct.pack("<I", big),
            b"j" + struct.pack("<I", big),
            b"p%d\n" % big,
            b"g%d\n" % big,
            b"]" * draw.randint(1, 2000) + b"a" * draw.randint(0, 2000),
            b"(" * draw.randint(1, 2000) + b"t" * draw.randint(0, 2000),
            b"](" + b"22" * draw.randint(1, 500) + b"e",
            b"]q\x00" + b"(h\x00h\x00h\x00h\x00lq\x00" * 30,
            b")" + b"\x85" * 2000 + b"}" + b"\x85" * 2,
            b"X" + struct.pack("<I", big),
            b"\x8d" + struct.pack("<Q", 2**60),
            b"\x8e" + struct.pack("<Q", 2**62),
            b"\x96" + struct.pack("<Q", 2**40),
            b"\x95" + struct.pack("<Q", 2**63 - 1),
            b"\x8b" + struct.pack("<i", 2**31 - 1),
            b"I" + b"9" * 5000 + b"\n",
            b"L" + b"9" * 5000 + b"L\n",
            b"(d" + b"}" * 100,
            draw.choice([b"]", b"}", b"\x8f", b"(d", b")"]) * 200_000,
            b"}(" + _colliding(b"N") + b"u",
            b"\x8f(" + _colliding(b"") + b"\x90",
        ]
    )
    return data[:at] + attack + data[at:]


@cache
def _colliding(value: bytes) -> bytes:
    """20,000 integers of one hash, each followed by a value."""
    return b"".join(_long(number * (2**61 - 1)) + value for number in range(20_000))


def _long(number: int) -> bytes:
    content = number.to_bytes(16, "little")
    return b"\x8a" + bytes([len(content)]) + content


def shape(draw: random.Random, protocol: int) -> bytes:
    """Arrays that declare more, less or other than they hold."""
    sizes = [0, 1, -1, 3, 2**31, 2**62, 10**30, True, 1.5, None, "3"]
    declared = tuple(draw.choice(sizes) for _ in range(draw.choice([0, 1, 2, 3, 3, 3, 9, 40])))
    dtype = draw.choice(["f4", "<f8", "V8", "O", "M8", "S0", "U4", "f4,i4", "b1", "S999999999", "x", "c16"])
    content = draw.choice([b"", b"\0" * 24, [1, 2, 3], "text", None, [[]] * 3])
    fortran = draw.choice([True, False, None, 7])
    state = (1, declared, _Spelled("numpy", "dtype", (dtype, False, True)), fortran, content)
    array = _Spelled("numpy._core.multiarray", "_reconstruct", (_Name("numpy", "ndarray"), (0,), b"b"), state)
    return _dump(
        {name: {draw.choice(["audio", "id", "raw_text", "heart"]): array} for name in ("train", "valid", "test")}
    )


def surprise(draw: random.Random, protocol: int) -> bytes:
    """Arrays of objects, and columns, that hold what they should not."""
    loop: list[Any] = []
    loop.append(loop)
    laughs: Any = "ha"
    for _ in range(40):
        laughs = [laughs] * 3
    things = [loop, laughs, {1: {2: {}}}, np.ones(2), 10**400, b"\0", None, {1, 2}, ("a", 1), float("nan"), 1 + 2j, ""]
    column = np.empty(3, dtype=object)
    for row in range(3):
        column[row] = draw.choice(things)
    held = draw.choice([column, list(column), column.reshape(3, 1, 1), things, loop, laughs, {}, np.float64(1)])
    key = draw.choice(["raw_text", "id", "audio", "audio_lengths", "regression_labels", "vision_lengths", "heart"])
    return layout(draw, protocol, **{key: held})


KINDS: tuple[Callable[[random.Random, int], bytes], ...] = (
    flip,
    truncate,
    shuffle_bytes,
    splice,
    gadget,
    bomb,
    shape,
    surprise,
)


class _Name:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Spelled(_Name):
    """A call of a global, and a state for its result."""

    def __init__(self, module: str, name: str, arguments: tuple[Any, ...], state: Any = None) -> None:
        super().__init__(module, name)
        self.arguments, self.state = arguments, state


def _dump(value: Any) -> bytes:
    """A pickle by hand, of values that pickle itself would not write."""

    def body(value: Any) -> bytes:
        match value:
            case _Spelled():
                call = f"c{value.module}\n{value.name}\n".encode() + body(value.arguments) + b"R"
                return call + (b"" if value.state is None else body(value.state) + b"b")
            case _Name():
                return f"c{value.module}\n{value.name}\n".encode()
            case tuple():
                return b"(" + b"".join(map(body, value)) + b"t"
            case dict():
                return b"}(" + b"".join(body(key) + body(part) for key, part in value.items()) + b"u"
        return pickletools.optimize(pickle.dumps(value, 3))[2:-1]

    return b"\x80\x03" + body(value) + b"."


class Watch:
    """What the thread that reads a file makes the interpreter do, as audit hooks tell; other threads are not heard."""

    def __init__(self) -> None:
        self.events: Counter[str] | None = None
        self.thread = threading.get_ident()
        sys.addaudithook(self._note)

    def _note(self, event: str, details: tuple[Any, ...]) -> None:
        if self.events is not None and threading.get_ident() == self.thread:
            writes = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
            if event not in SILENT or writes:
                self.events[f"{event} {details[0]}" if event == "import" else event] += 1


def check(path: Path, data: bytes, watch: Watch) -> tuple[bool, float, int]:
    """Read one file; whether it was read, seconds and bytes of memory."""
    path.write_bytes(data)
    gc.disable()  # when it runs, weak references elsewhere in the process call back, and the watch would hear them
    tracemalloc.start()
    watch.events = Counter()
    try:
        read_mmsa(path)
        read = True
    except DataError as error:
        read, message = False, str(error)
    finally:
        events, watch.events = watch.events, None
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        gc.enable()
    started = thread_time()  # of a second time, since to trace memory takes several times as long
    with contextlib.suppress(DataError):
        read_mmsa(path)
    seconds = thread_time() - started
    assert not events, events
    if not read:
        assert message.startswith(f"{path}: "), message
        assert all(part in message for part in (" expected ", "found ", "; ")), message
        assert message.endswith("."), message
        assert len(message) < 1000, message
    check_built(path)
    return read, seconds, memory


def check_built(path: Path) -> None:
    """Whatever was built before the layout was looked at is plain."""
    try:
        todo, seen = [load_pickle(path)], set[int]()
    except Exception:
        return
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Foreign) or (isinstance(value, type) and issubclass(value, Foreign)):
            continue
        assert type(value) in (*PLAIN, Array, _Callable, _Dtype), type(value)
        if isinstance(value, Array):
            assert type(value.content) in (np.ndarray, list, type(None))
            todo += value.content if isinstance(value.content, list) else []
        elif isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            todo += value


def attack(count: int, seed: int) -> dict[str, tuple[int, int, float, int]]:
    """Read ``count`` files; for every kind how many, how many of them were read, most seconds and most bytes."""
    draw, watch = random.Random(seed), Watch()
    results: dict[str, tuple[int, int, float, int]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(count):
            make = KINDS[number % len(KINDS)]
            data = make(draw, draw.randrange(pickle.HIGHEST_PROTOCOL + 1))
            read, seconds, memory = check(Path(folder) / "data.pkl", data, watch)
            files, whole, slowest, largest = results.get(make.__name__, (0, 0, 0.0, 0))
            results[make.__name__] = (files + 1, whole + read, max(slowest, seconds), max(largest, memory - len(data)))
    return results


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = attack(options.count, options.seed)
    print(f"{'kind':14} {'files':>6} {'read':>6} {'refused':>8} {'most seconds':>13} {'most KiB':>9}")
    for kind, (files, whole, slowest, largest) in results.items():
        print(f"{kind:14} {files:6d} {whole:6d} {files - whole:8d} {slowest:13.3f} {largest / 1024:9.0f}")
        assert slowest < SECONDS, kind
        assert largest < MEMORY, kind
    print(f"{options.count} files: nothing ran, no other exception, no warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
