"""Read a table of samples into splits: one row per sample, one column per modality."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from derl.data.absence import is_blank
from derl.data.frames import PAGE, READERS, cell_frames, is_frames_path
from derl.data.rows import Row, find_table, read_rows
from derl.data.split import SPLITS, DataError, Split, check_name
from derl.data.splits import NAMES, draw_splits, draw_valid

COLUMNS = ("id", "split", "label", "group", "text")


@dataclass(frozen=True)
class Table:
    """How to read a table, and what was done to it.

    Attributes:
        classify: whether labels are names of classes; numbers otherwise.
        group: column whose rows stay together when splits are drawn. Default: ``group``, if there is one.
        seed: seed of the splits.
        notes: lines that say what was drawn, cut and left out.
    """

    classify: bool = False
    group: str | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    def read(self, path: str | Path) -> dict[str, Split]:
        """Read the splits of a table.

        The columns ``id``, ``split``, ``label``, ``group`` and ``text`` have their names; every other column is a
        modality if its cells name files of frames, or hold numbers or sound. An empty cell is an absent modality: a
        sample of length 0. Rows without any input are left out.

        Raises:
            DataError: The table or a file that it names cannot be read, or a row lacks what training needs.
        """
        path = _found(path)
        rows = list(read_rows(path))
        if not rows:
            raise DataError(f"{path}: expected rows below the header, found none; add one row per sample.")
        if "label" not in rows[0].cells:
            raise DataError(f"{path}: expected a column label, found {', '.join(rows[0].cells)}; rename a column.")
        modalities, left_out = _modalities(path, rows, {*COLUMNS, self.group})
        has_text = any(_text(row) for row in rows)
        if not modalities and not has_text:
            raise DataError(
                f"{path}: expected a column text, or columns of files ({', '.join(READERS)}), found "
                f"{', '.join(rows[0].cells)}; see {PAGE}."
            )
        rows = self._with_input(rows, modalities)
        names = self._splits(path, rows)
        parts = {split: [row for row, name in zip(rows, names, strict=True) if name == split] for split in SPLITS}
        classes = _classes(path, parts) if self.classify else []
        frames = {name: _frames(_folder(path), name, parts) for name in modalities}
        for name in [name for name, of_split in frames.items() if not max(map(len, of_split["train"]))]:
            left_out[name] = "it has no frames in any training row"
            del frames[name]
        limits = {name: max(map(len, of_split["train"])) for name, of_split in frames.items()}
        for name, limit in limits.items():
            longer = [len(part) for of_split in frames[name].values() for part in of_split if len(part) > limit]
            if longer:
                self.notes.append(
                    f"{name}: {len(longer)} samples of valid and test were cut to {limit} frames, training's longest; "
                    f"the longest had {max(longer)}."
                )
        return {
            split: Split(
                ids=[_id(row, number) for number, row in enumerate(part)],
                text=[_text(row) for row in part] if has_text else None,
                features={name: _padded(frames[name][split], limit) for name, limit in limits.items()},
                lengths={
                    name: torch.tensor([min(len(sample), limit) for sample in frames[name][split]])
                    for name, limit in limits.items()
                },
                labels=torch.tensor([_label(row, classes, self.classify) for row in part], dtype=torch.float32),
                left_out=left_out,
                classes=classes,
            )
            for split, part in parts.items()
        }

    def checksum(self, path: str | Path) -> str:
        """Return two checksums: of the table and how it is read, and of the sizes and times of the files it names."""
        path = _found(path)
        cells = hashlib.sha256(repr((self.classify, self.group, self.seed)).encode())
        files = hashlib.sha256()
        for row in read_rows(path):
            cells.update(repr(row.cells).encode())
            for file in _files(path, row):
                if file.is_file():
                    files.update(repr((file.stat().st_size, file.stat().st_mtime_ns)).encode())
        return f"{cells.hexdigest()} {files.hexdigest()}"

    def lost(self, path: str | Path, checksum: str) -> Path | None:
        """Return a file that is not there any more, if the table is as it was at this checksum; None if all are."""
        path = _found(path)
        gone = (file for row in read_rows(path) for file in _files(path, row) if not file.is_file())
        file = next(gone, None)
        return file if file and self.checksum(path).split()[0] == checksum.split()[0] else None

    def _with_input(self, rows: Sequence[Row], modalities: Sequence[str]) -> list[Row]:
        """Leave out rows in which every modality is absent."""
        there = [row for row in rows if _text(row) or any(not is_blank(row.cells[name]) for name in modalities)]
        if len(there) < len(rows):
            gone = next(row for row in rows if row not in there)
            self.notes.append(f"left out: {len(rows) - len(there)} rows without any input, first {gone.where}.")
        return there

    def _splits(self, path: Path, rows: Sequence[Row]) -> list[str]:
        """Return each row's split, drawn if the table does not say it."""
        group = self.group or "group"
        if self.group is not None and self.group not in rows[0].cells:
            raise DataError(f"{path}: expected the column {self.group!r} of --group, found {', '.join(rows[0].cells)}.")
        grouped = group in rows[0].cells
        groups = [str(row.cells[group]) if grouped else str(number) for number, row in enumerate(rows)]
        try:
            if "split" in rows[0].cells:
                splits = [_split(row) for row in rows]
                absent = [name for name in SPLITS if name not in splits]
                if absent == ["valid"]:
                    splits = draw_valid(splits, groups, self.seed)
                elif absent:
                    raise DataError(
                        f"expected rows of every split of {', '.join(SPLITS)}, found none of {', '.join(absent)}; add "
                        "some, or leave out the column split."
                    )
                else:
                    return splits
            else:
                splits = draw_splits(groups, self.seed)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        counts = ", ".join(f"{splits.count(name)} {name}" for name in SPLITS)
        kept = f"rows of one {group} are in one split" if grouped else "row by row, as there is no column of groups"
        self.notes.append(f"splits drawn with seed {self.seed}: {counts}; {kept}.")
        return splits


def _found(path: str | Path) -> Path:
    found = find_table(path)
    if found is None:
        raise DataError(f"{path}: expected a table: a CSV or Parquet file, or a folder that holds table.csv.")
    return found


def _folder(table: Path) -> Path:
    """Return the folder that a table's paths are relative to."""
    return table.parent if table.is_file() else table


def _files(table: Path, row: Row) -> list[Path]:
    return [_folder(table) / cell.strip() for cell in row.cells.values() if is_frames_path(cell)]


def _modalities(path: Path, rows: Sequence[Row], known: set[str | None]) -> tuple[list[str], dict[str, str]]:
    """Return the columns that are modalities, and why the others are left out."""
    chosen, left_out = [], {}
    for name in rows[0].cells:
        cells = [row.cells[name] for row in rows if not is_blank(row.cells[name])]
        frames = [(not isinstance(cell, str) and _is_content(cell)) or is_frames_path(cell) for cell in cells]
        if name in known:
            continue
        if not any(frames):
            left_out[name] = f"no cell names a file ({', '.join(READERS)})" if cells else "every cell is empty"
            continue
        try:
            check_name("the column", name)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        if not all(frames):
            row = next(row for row in rows if not is_blank(row.cells[name]) and not is_frames_path(row.cells[name]))
            raise DataError(
                f"{row.where}: expected a file ({', '.join(READERS)}) or an empty cell as {name}, found "
                f"{str(row.cells[name])[:40]!r}."
            )
        chosen.append(name)
    return chosen, left_out


def _is_content(cell: Any) -> bool:
    return isinstance(cell, (dict, list, np.ndarray))


def _frames(folder: Path, name: str, parts: Mapping[str, Sequence[Row]]) -> dict[str, list[np.ndarray]]:
    """Read a modality; an absent sample has no frames."""
    frames: dict[str, list[np.ndarray]] = {}
    width, first = None, ""
    for split, rows in parts.items():
        frames[split] = []
        for row in rows:
            cell = row.cells[name]
            part = np.zeros((0, 0), np.float32) if is_blank(cell) else cell_frames(cell, folder, f"{row.where}, {name}")
            part[np.isinf(part)] = np.nan  # not observed
            if len(part) and width is None:
                width, first = part.shape[1], row.where
            if len(part) and part.shape[1] != width:
                raise DataError(
                    f"{row.where}: expected {width} features per frame of {name}, as in {first}, found "
                    f"{part.shape[1]}; extract them alike."
                )
            frames[split].append(part)
    return {
        split: [part if len(part) else np.zeros((0, width or 1), np.float32) for part in of_split]
        for split, of_split in frames.items()
    }


def _padded(samples: Sequence[np.ndarray], limit: int) -> torch.Tensor:
    padded = torch.zeros(len(samples), limit, samples[0].shape[1])
    for row, sample in enumerate(samples):
        padded[row, : len(sample)] = torch.from_numpy(sample[:limit])
    return padded


def _classes(path: Path, parts: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return the classes of the training rows, in numeric order if all are numbers."""
    classes = sorted({_class(row) for row in parts["train"]})
    if len(classes) < 2:
        raise DataError(f"{path}: expected at least two classes in training, found {', '.join(classes)}.")
    try:
        return sorted(classes, key=float)
    except ValueError:
        return classes


def _class(row: Row) -> str:
    label = row.cells["label"]
    if is_blank(label):
        raise DataError(f"{row.where}: expected a label, found an empty cell; fill it in, or leave the row out.")
    return str(label).strip()


def _label(row: Row, classes: Sequence[str], classify: bool) -> float:
    label = _class(row)
    if classify:
        if label not in classes:
            raise DataError(
                f"{row.where}: expected a class of the training rows ({', '.join(classes[:10])}), found {label!r}."
            )
        return float(classes.index(label))
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{row.where}: expected a number as label, found {label[:40]!r}; --task classify reads class names."
        )
    return number


def _split(row: Row) -> str:
    name = str(row.cells["split"] or "").strip().lower()
    if name not in NAMES:
        raise DataError(f"{row.where}: expected split to be one of {', '.join(SPLITS)}, found {name!r}.")
    return NAMES[name]


def _id(row: Row, number: int) -> str:
    return str(row.cells.get("id") or number)


def _text(row: Row) -> str | None:
    cell = row.cells.get("text")
    return None if is_blank(cell) else str(cell)
