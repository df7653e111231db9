"""Read data larger than memory, one sample at a time, from memory-mapped safetensors shards.

:class:`derl.data.shard_writer.ShardWriter` writes a folder with ``index.json`` and, per split, shards of many samples.
A shard concatenates the tensors of its samples, without padding:

- ``labels``: ``(n,)`` float32.
- Each modality's frames: ``(frames, D)`` float32, NaN where a value was not observed.
- ``ids`` and ``text``: UTF-8 bytes. A sample without text has none.
- ``NAME_ends`` for all of these but the labels: ``(n,)`` int64, the end of each sample.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from derl.data.absence import Missing
from derl.data.files import checksum
from derl.data.split import SPLITS, DataError, check_name

INDEX = "index.json"
FORMAT = "derl-shards-1"
_FILE = re.compile(r"(?:train|valid|test)-\d{5}\.safetensors")


class ShardedRows:
    """Frames of a modality, ``(T, D)`` per sample, read from the shards on access.

    Attributes:
        shape: ``(n, L, D)``, where L is the maximum number of frames per sample.
    """

    def __init__(self, shards: "_Shards", name: str, limit: int, width: int) -> None:
        self._shards, self._name = shards, name
        self.shape = (len(shards), limit, width)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: int) -> Tensor:
        frames = self._shards.read(self._name, index)
        return no_infinity(frames, f"{self._name} in row {index} of {self._shards.folder}")


class ShardedText(Sequence[str | None]):
    """Transcripts, read from the shards on access; None where a sample has none."""

    def __init__(self, shards: "_Shards") -> None:
        self._shards = shards

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        return bytes(self._shards.read("text", range(len(self))[index]).tolist()).decode() or None


class ShardedSplit:
    """A :class:`derl.data.split.Split` whose text and features stay in the shards.

    Ids, labels and lengths are in memory: a few hundred bytes per sample.
    """

    def __init__(
        self,
        shards: "_Shards",
        has_text: bool,
        widths: Mapping[str, int],
        limits: Mapping[str, int],
        missing: Mapping[str, Missing],
        classes: Sequence[str] = (),
    ) -> None:
        self.ids = shards.strings("ids")
        self.text = ShardedText(shards) if has_text else None
        self.features = {name: ShardedRows(shards, name, limits[name], width) for name, width in widths.items()}
        self.lengths = {name: shards.lengths(name) for name in widths}
        self.labels = finite(shards.whole("labels"), f"labels of {shards.folder}")
        self._missing = dict(missing)
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, text first."""
        return (("text",) if self.text is not None else ()) + tuple(self.features)

    def missing(self) -> dict[str, Missing]:
        """Return what each modality lacks, counted when the shards were written."""
        return {name: self._missing.get(name, Missing()) for name in self.modalities}


def open_shards(folder: str | Path) -> dict[str, ShardedSplit]:
    """Open a folder that :class:`ShardWriter` wrote, without reading the features.

    Raises:
        DataError: The folder or a shard is missing, truncated, in another format, or does not match the index.
    """
    folder = Path(folder)
    try:
        index = json.loads((folder / INDEX).read_text())
        if index["format"] != FORMAT:
            raise DataError(f"format {index['format']!r}, not {FORMAT!r}")
        has_text, widths = bool(index["text"]), {str(name): int(width) for name, width in index["widths"].items()}
        for name in widths:
            check_name("open_shards", name)
        limits = {name: int(index["max_lengths"][name]) for name in widths}
        classes = list(map(str, index["classes"]))
        splits = {}
        for name in SPLITS:
            shards = _Shards(folder, index["splits"][name], has_text, widths, limits)
            missing = {modality: Missing(**counts) for modality, counts in index["missing"][name].items()}
            splits[name] = ShardedSplit(shards, has_text, widths, limits, missing, classes)
    except Exception as error:
        raise DataError(
            f"{folder}: expected a folder that ShardWriter wrote, found {type(error).__name__}: {error}; write it "
            "again with examples/derl_shards.py, or pass the right path."
        ) from error
    return splits


def verify_shards(folder: str | Path) -> int:
    """Compare the checksum of every shard with the index, and return the number of shards.

    Raises:
        DataError: A shard has changed, or :func:`open_shards` refuses the folder.
    """
    folder = Path(folder)
    open_shards(folder)
    entries = [entry for split in json.loads((folder / INDEX).read_text())["splits"].values() for entry in split]
    for entry in entries:
        found = checksum(folder / entry["file"])
        if found != entry["sha256"]:
            raise DataError(
                f"{folder / entry['file']}: expected sha256 {entry['sha256']}, found {found}; copy the file again, or "
                "write the folder again with examples/derl_shards.py."
            )
    return len(entries)


class _Shards:
    """The shards of a split as one sequence: finds sample i in its file."""

    def __init__(
        self,
        folder: Path,
        entries: list[dict[str, Any]],
        has_text: bool,
        widths: Mapping[str, int],
        limits: Mapping[str, int],
    ) -> None:
        self.folder = folder
        self._files = [str(entry["file"]) for entry in entries]
        self._starts = [0, *accumulate(int(entry["samples"]) for entry in entries)]
        self._open: dict[int, Any] = {}
        names = ("ids", *(["text"] if has_text else []), *widths)
        self._ends: dict[str, list[Tensor]] = {name: [] for name in names}
        for number, entry in enumerate(entries):
            self._check(number, entry, widths, limits)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # another process maps the files for itself

    def read(self, name: str, index: int) -> Tensor:
        """Return a sample's part of a tensor."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = bisect_right(self._starts, index) - 1
        row = index - self._starts[number]
        ends = self._ends[name][number]
        start = int(ends[row - 1]) if row else 0
        part: Tensor = self._shard(number).get_slice(name)[start : int(ends[row])]
        return part

    def whole(self, name: str) -> Tensor:
        """Return a tensor, concatenated over all shards."""
        return torch.cat([self._shard(number).get_tensor(name) for number in range(len(self._files))])

    def strings(self, name: str) -> list[str]:
        """Return a text per sample."""
        rows = []
        for number, ends in enumerate(self._ends[name]):
            content = bytes(self._shard(number).get_tensor(name).numpy())
            rows += [content[start:end].decode() for start, end in pairwise([0, *ends.tolist()])]
        return rows

    def lengths(self, name: str) -> Tensor:
        """Return the length of each sample's part of a tensor."""
        return torch.cat([ends.diff(prepend=ends.new_zeros(1)) for ends in self._ends[name]])

    def _shard(self, number: int) -> Any:
        if number not in self._open:
            self._open[number] = safe_open(self.folder / self._files[number], "pt")
        return self._open[number]

    def _check(
        self, number: int, entry: Mapping[str, Any], widths: Mapping[str, int], limits: Mapping[str, int]
    ) -> None:
        file, samples = self._files[number], int(entry["samples"])
        if not _FILE.fullmatch(file):
            raise DataError(f"the name {file!r} in {INDEX}, where shards are SPLIT-NUMBER.safetensors")
        size = (self.folder / file).stat().st_size
        if size != entry["bytes"]:
            raise DataError(f"{file} of {size} bytes, {INDEX} says {entry['bytes']}")
        shard = self._shard(number)
        shapes = {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
        if shapes.get("labels") != (samples,):
            raise DataError(f"labels of shape {shapes.get('labels')} in {file}, {INDEX} says {samples} samples")
        for name, ends in self._ends.items():
            found = shard.get_tensor(f"{name}_ends")
            rows = (int(found[-1]) if len(found) else 0, *([widths[name]] if name in widths else []))
            steps = found.diff(prepend=found.new_zeros(1))
            if found.shape != (samples,) or (steps < 0).any() or shapes.get(name) != rows:
                raise DataError(f"{name} of shape {shapes.get(name)} in {file}, its {samples} ends say {rows}")
            if name in widths and steps.max() > limits[name]:
                raise DataError(f"{name} of {int(steps.max())} frames in {file}, {INDEX} allows {limits[name]}")
            ends.append(found)


def finite(values: Tensor, label: str) -> Tensor:
    """Return the values; raise if any is not finite."""
    if not values.isfinite().all():
        raise DataError(f"expected finite {label}, found nan or infinity; repair the values or leave the sample out.")
    return values


def no_infinity(values: Tensor, label: str) -> Tensor:
    """Return the values, which may be NaN where they are missing; raise if any is infinite."""
    if values.isinf().any():
        raise DataError(f"expected {label} without infinity, found one; put NaN where a value is missing.")
    return values
