"""Write data larger than memory, one sample at a time, as shards for :mod:`derl.data.shards`."""

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

from derl.data.absence import Missing, count_frames, count_text
from derl.data.files import checksum
from derl.data.shards import FORMAT, INDEX, finite, no_infinity
from derl.data.split import SPLITS, DataError, check_name, check_text


class ShardWriter:
    """Write samples one at a time into a new folder, which appears only once it is complete.

    Args:
        folder: folder to create.
        max_lengths: modality -> maximum number of frames per sample. A model learns one position per frame. Default:
            length of the longest sample.
        classes: names of the classes whose numbers, 0 to C - 1, are the labels. Default: labels are numbers.
        shard_bytes: approximate size of a file in bytes; also the most bytes of samples buffered in memory.

    Raises:
        DataError: The folder exists or cannot be written, or a sample does not match the earlier ones.

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
        self,
        folder: str | Path,
        *,
        max_lengths: Mapping[str, int] | None = None,
        classes: Sequence[str] = (),
        shard_bytes: int = 256 * 2**20,
    ) -> None:
        self.folder, self.shard_bytes, self.classes = Path(folder), shard_bytes, _names(classes)
        limits = {} if max_lengths is None else max_lengths
        if not isinstance(limits, Mapping) or not all(_is_count(limit) for limit in limits.values()):
            raise ValueError(
                f"ShardWriter expected max_lengths to be an int >= 0 per modality, got {max_lengths!r}; leave it "
                "out to keep all frames."
            )
        if not _is_count(shard_bytes) or not shard_bytes:
            raise ValueError(f"ShardWriter expected shard_bytes to be an int >= 1, got {shard_bytes!r}.")
        self._limits, self._longest = dict(limits), dict[str, int]()
        if self.folder.exists():
            raise DataError(f"{folder}: expected a new folder, found an existing one; choose another, or remove it.")
        self._temporary = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        self._index: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
        self._waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
        self._bytes = dict.fromkeys(SPLITS, 0)
        self._missing: dict[str, dict[str, Missing]] = {name: {} for name in SPLITS}
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
            name: id of the sample.
            label: a finite number, or the number of a class.
            text: the transcript, or "" if this sample has none; None if no sample has one.
            features: modality -> ``(T, D)``, the real frames, with NaN where a value was not observed. T is 0 if this
                sample lacks the modality. Every sample has the same modalities and widths.
        """
        if split not in SPLITS:
            raise DataError(f"ShardWriter expected split to be one of {SPLITS}, got {split!r}.")
        if not isinstance(name, str) or not (text is None or isinstance(text, str)):
            raise DataError(f"ShardWriter expected name and text to be str, got {name!r} and {text!r}; convert them.")
        for what, value in (("name", name), ("text", text or "")):
            check_text("ShardWriter", f"{what} of {name!r}", value)
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
        if self.classes and label not in range(len(self.classes)):
            raise DataError(
                f"ShardWriter expected the number of a class, 0 to {len(self.classes) - 1}, as label, got {label:g} "
                f"for {name!r}; use classes.index(name)."
            )
        sample = {"ids": name, "text": text, "label": finite(torch.tensor(label), f"label of {name!r}")}
        for modality, frames in features.items():
            check_name("ShardWriter", modality)
            if modality in ("ids", "labels") or modality.endswith("_ends"):
                raise DataError(f"ShardWriter uses names like {modality!r} for its own tensors; rename the modality.")
            fits = isinstance(frames, Tensor) and frames.ndim == 2 and not frames.is_complex()
            if modality == "text" or not fits:
                found = f"{frames.dtype} {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
                raise DataError(
                    f"ShardWriter expected features as tensors (T, D) of modalities other than text, got {modality!r} "
                    f"as {found} for {name!r}; convert it, e.g. with torch.as_tensor."
                )
            sample[modality] = no_infinity(frames.detach().to("cpu", torch.float32), f"{modality} of {name!r}")
        layout = (text is not None, {modality: frames.shape[1] for modality, frames in features.items()})
        self._layout = self._layout or layout
        if layout != self._layout or not any(layout):
            raise DataError(
                f"ShardWriter expected the same text and features in every sample, (text, widths) = {self._layout}, "
                f"got {layout} for {name!r}; for a missing modality, pass 0 frames, or '' as text."
            )
        for modality, frames in features.items():
            self._longest[modality] = max(self._longest.get(modality, 0), len(frames))
            if len(frames) > self._limits.get(modality, len(frames)):
                raise DataError(
                    f"ShardWriter expected at most {self._limits[modality]} frames of {modality}, got {len(frames)} "
                    f"for {name!r}; truncate them, or raise max_lengths."
                )
        counts = {} if text is None else {"text": count_text([text])}
        counts |= {modality: count_frames(sample[modality]) for modality in features}
        for modality, count in counts.items():
            self._missing[split][modality] = self._missing[split].get(modality, Missing()) + count
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
            "classes": self.classes,
            "max_lengths": {name: max(self._limits.get(name, length), 1) for name, length in self._longest.items()},
            "missing": {
                name: {modality: count._asdict() for modality, count in counts.items()}
                for name, counts in self._missing.items()
            },
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
                "writable folder with free space."
            ) from error


def _joined(name: str, rows: Sequence[Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat(list(rows)), f"{name}_ends": torch.tensor([len(row) for row in rows]).cumsum(0)}


def _names(classes: Any) -> list[str]:
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(x, str) for x in classes):
        raise ValueError(f"ShardWriter expected classes to be a list of names, got {classes!r}; leave it out for none.")
    return list(classes)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
