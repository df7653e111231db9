"""Recognize files that are no pickle, or a damaged one, and say what to do with each."""

import json
import re
import zipfile
from contextlib import suppress
from pathlib import Path

from derl.data.frames import PAGE

_WRITE = f"write its samples with derl.data.shard_writer.ShardWriter ({PAGE})"
WRITER = f"read it in Python, and {_WRITE}"
_TORCH = f"read it with torch.load(path, weights_only=True), and {_WRITE}"
_TABLE = (
    "save it as a table, e.g. with pandas.{}.to_csv('table.csv', index=False), and give --data table.csv (" + PAGE + ")"
)
_STARTS = {  # first bytes -> what the file looks like, and the remedy
    b"\x89HDF": (
        "an HDF5 file, as .csd files are",
        f"align the .csd files with the CMU-Multimodal SDK, or {WRITER}",
    ),
    b"\x93NUMPY": ("one NumPy array (.npy)", f"it holds no labels: {_WRITE}"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "run 'git lfs pull' where it came from"),
    b"PAR1": ("a Parquet file", "give it a name that ends in .parquet"),
    b"\x1f\x8b": ("a gzip file", "unpack it with gunzip"),
    b"BZh": ("a bzip2 file", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("an xz file", "unpack it with unxz"),
    b"MATLAB 5.0 MAT-file": ("a MATLAB file (.mat)", f"read it with scipy.io.loadmat(path), and {_WRITE}"),
    b"MATLAB 7.3 MAT-file": ("a MATLAB file of version 7.3 (.mat)", f"read it with h5py, and {_WRITE}"),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old Office file, such as .xls", _TABLE.format("read_excel(path)")),
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": (
        "a file of torch.save (.pt)",
        _TORCH,
    ),
}
_ZIP = b"PK\x03\x04"
_LONGEST = 16 * 2**20  # bytes searched for line ends
_FEWEST = 3  # line ends that tell a copy as text


def recognize(path: Path) -> tuple[str, str] | None:
    """Return what a file looks like that is no pickle, and what to do with it; None if it may be a pickle."""
    with path.open("rb") as file:
        head = file.read(4096)
    for start, known in _STARTS.items():
        if head.startswith(start):
            return known
    if head.startswith(_ZIP):
        return _archive(path)
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "a page of the web, not the file itself", "download the file again, and look at it in a browser first"
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text.lstrip().startswith((b"{", b"[")):  # no opcodes of pickle
        return _json(path, text)
    return _separated(text.partition(b"\n")[0])


def copied_as_text(path: Path) -> bool:
    """Return whether every line end of a file is CR LF, as after a copy as text from or to Windows."""
    with path.open("rb") as file:
        start = file.read(min(path.stat().st_size, _LONGEST))
    return start.count(b"\n") == start.count(b"\r\n") >= _FEWEST


def _json(path: Path, text: bytes) -> tuple[str, str]:
    first, _, rest = text.partition(b"\n")
    lines = path.suffix.lower() in (".jsonl", ".ndjson")
    with suppress(ValueError, RecursionError):
        lines = lines or bool(json.loads(first) and rest.strip())
    if lines:
        return "JSON Lines, one sample per line", _TABLE.format("read_json(path, lines=True)")
    return "JSON", _TABLE.format("read_json(path)")


def _separated(line: bytes) -> tuple[str, str] | None:
    """Return what the first line of a table in text tells; None if it is something else."""
    if not re.fullmatch(rb"[^\x00-\x08\x0e-\x1f]+", line) or line.startswith((b"(", b"I", b"L")):
        return None
    count, mark = max((line.count(mark), mark) for mark in (b";", b"\t", b","))
    if not count:
        return None
    if mark == b",":
        return "a table of text (CSV)", f"give it a name that ends in .csv, or {WRITER}"
    name = "tabs (TSV)" if mark == b"\t" else "semicolons"
    return f"a table of text with {name}", _TABLE.format(f"read_csv(path, sep={mark.decode()!r})")


def _archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "a damaged zip archive", "get the file again"
    if any(name.endswith("data.pkl") for name in names):
        return (
            "a file of torch.save (.pt)",
            _TORCH,
        )
    if names and all(name.endswith(".npy") for name in names):
        return "arrays of numpy.savez (.npz)", WRITER
    if "xl/workbook.xml" in names:
        return "an Excel workbook (.xlsx)", _TABLE.format("read_excel(path)")
    return "a zip archive", "unpack it"
