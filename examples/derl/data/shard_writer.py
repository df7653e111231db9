"""Write data larger than memory, a sample at a time, as the shards that :mod:`derl.data.shards` reads."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from derl.data.files import checksum
from derl.data.shards import FORMAT, INDEX, finite
from derl.data.split import SPLITS, DataError, check_name


class ShardWriter:
    """Writes samples one at a time into a new folder, whole or not at all: it appears under its name when all is in it.

    Args:
        folder: to make.
        max_lengths: modality -> most frames that a sample may have; left out: the most that one has. A model learns a
            position for each.
        shard_bytes: of samples in memory, and about the size of a file.

    Raises:
        DataError: the folder exists or cannot be written, or a sample does not fit those before it.

    Example:
        >>> import tempfile
        >>> from derl.data.shards import open_shards
        >>> folder = Path(tempfile.mkdtemp()) / "data"
        >>> with ShardWriter(folder) as writer:
        ...     for split in SPLITS:
        ...         writer.add(split, "clip 1", 1.5, text="so good", features={"audio": torch.ones(9, 5)})
        >>> open_shards(folder)["train"].features["audio"][0].shape
        torch.Size([9, 5])
    """

    def __init__(
        self, folder: str | Path, *, max_lengths: Mapping[str, int] | None = None, shard_bytes: int = 256 * 2**20
    ) -> None:
        self.folder, self.shard_bytes = Path(folder), shard_bytes
        limits = {} if max_lengths is None else max_lengths
        if not isinstance(limits, Mapping) or not all(_is_count(limit) for limit in limits.values()):
            raise ValueError(
                f"ShardWriter expected max_lengths: modality -> an int >= 0, got {max_lengths!r}; correct it, or "
                "leave it out."
            )
        if not _is_count(shard_bytes) or not shard_bytes:
            raise ValueError(f"ShardWriter expected shard_bytes as an int >= 1, got {shard_bytes!r}; pass a size.")
        self._limits, self._longest = dict(limits), dict[str, int]()
        if self.folder.exists():
            raise DataError(f"{folder}: expected a new folder, found that it exists; choose another, or remove it.")
        self._temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        self._index: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
        self._waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
        self._bytes = dict.fromkeys(SPLITS, 0)
        self._layout: tuple[bool, dict[str, int]] | None = None
        self._explain(self._temporary.mkdir, parents=True)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def add(
        self,
        split: str,
        name: str,
        label: float,
        *,
        text: str | None = None,
        features: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a sample.

        Args:
            split: "train", "valid" or "test".
            name: of the sample.
            label: finite.
            text: its transcript; every sample has one, or none has.
            features: modality -> `(T, D)`, finite, its real frames; T may be 0. The same modalities and widths for
                every sample.
        """
        if split not in SPLITS:
            raise DataError(f"ShardWriter expected split to be one of {SPLITS}, got {split!r}; correct it.")
        if not isinstance(name, str) or not (text is None or isinstance(text, str)):
            raise DataError(f"ShardWriter expected name and text to be str, got {name!r} and {text!r}; convert them.")
        features = {} if features is None else features
        if not isinstance(features, Mapping):
            raise DataError(
                f"ShardWriter expected features: modality -> frames, got {type(features).__name__} for {name!r}; "
                "pass a dict."
            )
        try:
            label = float(label)
        except (TypeError, ValueError):
            raise DataError(
                f"ShardWriter expected a number as label, got {label!r} for {name!r}; convert it, or leave the "
                "sample out."
            ) from None
        sample = {"ids": name, "text": text, "label": finite(torch.tensor(label), f"label of {name!r}")}
        for modality, frames in features.items():
            check_name("ShardWriter", modality)
            if modality in ("ids", "labels") or modality.endswith("_ends"):
                raise DataError(f"ShardWriter keeps tensors of its own under such names as {modality!r}; rename it.")
            fits = isinstance(frames, Tensor) and frames.ndim == 2 and not frames.is_complex()
            if modality == "text" or not fits:
                found = f"{frames.dtype} {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
                raise DataError(
                    f"ShardWriter expected features (T, D), tensors, of modalities other than text, got {modality!r} "
                    f"as {found} for {name!r}; convert it, as by torch.as_tensor."
                )
            sample[modality] = finite(frames.detach().to("cpu", torch.float32), f"{modality} of {name!r}")
        layout = (text is not None, {modality: frames.shape[1] for modality, frames in features.items()})
        self._layout = self._layout or layout
        if layout != self._layout or not any(layout):
            raise DataError(
                f"ShardWriter expected text or features, the same of every sample: (text, widths) = {self._layout}, "
                f"got {layout} for {name!r}; give a sample that lacks a modality 0 frames of it, or the text ''."
            )
        for modality, frames in features.items():
            self._longest[modality] = max(self._longest.get(modality, 0), len(frames))
            if len(frames) > self._limits.get(modality, len(frames)):
                raise DataError(
                    f"ShardWriter expected at most {self._limits[modality]} frames of {modality}, got {len(frames)} "
                    f"for {name!r}; cut them, or raise max_lengths."
                )
        self._waiting[split].append(sample)
        self._bytes[split] += len(text or "") + sum(sample[modality].nbytes for modality in features)
        if self._bytes[split] >= self.shard_bytes:
            self._flush(split)

    def _flush(self, split: str) -> None:
        samples, self._waiting[split], self._bytes[split] = self._waiting[split], [], 0
        assert self._layout is not None
        tensors = {"labels": torch.stack([sample["label"] for sample in samples])}
        for name in ("ids", *(["text"] if self._layout[0] else [])):
            tensors |= _joined(
                name, [torch.tensor(list(sample[name].encode()), dtype=torch.uint8) for sample in samples]
            )
        for name in self._layout[1]:
            tensors |= _joined(name, [sample[name] for sample in samples])
        file = f"{split}-{len(self._index[split]):05d}.safetensors"
        path = self._temporary / file
        self._explain(save_file, tensors, path, {"format": FORMAT})
        self._index[split].append(
            {"file": file, "samples": len(samples), "bytes": path.stat().st_size, "sha256": checksum(path)}
        )

    def _finish(self) -> None:
        for split in SPLITS:
            if self._waiting[split]:
                self._flush(split)
            if not self._index[split]:
                raise DataError(f"{self.folder}: expected samples of every split of {SPLITS}, got none of {split!r}.")
        assert self._layout is not None
        index = {
            "format": FORMAT,
            "text": self._layout[0],
            "widths": self._layout[1],
            "max_lengths": {name: max(self._limits.get(name, length), 1) for name, length in self._longest.items()},
            "splits": self._index,
        }
        self._explain((self._temporary / INDEX).write_text, json.dumps(index, indent=2))
        self._explain(os.rename, self._temporary, self.folder)

    def _explain(self, function: Any, *arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except Exception as error:
            raise DataError(
                f"{self.folder}: expected a place to write shards to, found {type(error).__name__}: {error}; choose a "
                "folder that is writable and has room."
            ) from error


def _joined(name: str, rows: Sequence[Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat(list(rows)), f"{name}_ends": torch.tensor([len(row) for row in rows]).cumsum(0)}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
