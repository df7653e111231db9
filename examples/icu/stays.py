"""Stays in intensive care, and how they are read: from one ``.npz`` file or from the challenge's text files."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from icu.text import read_text
from icu.variables import HOURS, STATIC, VARIABLES

SPLITS = 5
PARTS = ("train", "valid", "test")
Rows = Mapping[str, Tensor]  # "train", "valid", "test" -> row numbers


class Stays(NamedTuple):
    """S stays. NaN is what was not measured.

    Attributes:
        values: ``(S, 48, 37)``, the last value of each of ``VARIABLES`` in each hour.
        static: ``(S, 5)``, the values of ``STATIC``.
        died: ``(S,)``, 1.0 if the patient died in hospital.
        splits: Row numbers of ``PARTS``, per split.
    """

    values: Tensor
    static: Tensor
    died: Tensor
    splits: tuple[Rows, ...]

    def take(self, rows: Tensor) -> "Stays":
        """Return the stays of some rows, without splits."""
        return Stays(self.values[rows], self.static[rows], self.died[rows], ())


def read_stays(path: Path) -> Stays:
    """Read stays.

    Args:
        path: An ``.npz`` file with ``values``, ``variables``, ``static``, ``died`` and ``split{1..5}_{part}``; or a
            folder with the challenge's ``Outcomes-*.txt`` and one ``{record}.txt`` per stay, at any depth. A folder
            has no splits, so five are drawn, with seeds 1 to 5: 80 % train, 10 % valid, 10 % test.

    Raises:
        ValueError: Something is missing or is not what it should be; the message names it.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist.")
    if path.is_dir():
        values, static, died = read_text(path)
        measured = np.isfinite(values).any((1, 2)).nonzero()[0]
        splits = tuple(_draw_split(measured, seed) for seed in range(1, SPLITS + 1))
    else:
        values, static, died, splits = _read_npz(path)
    arrays = (torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in (values, static, died))
    return Stays(*arrays, splits)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Rows, ...]]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = dict(file)
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        BadZipFile,
    ) as error:  # numpy's, by what is wrong with the file
        raise ValueError(f"{path} is neither an .npz file nor a folder of the challenge's text files.") from error
    names = [f"split{number}_{part}" for number in range(1, SPLITS + 1) for part in PARTS]
    missing = [name for name in ("values", "variables", "static", "died", *names) if name not in found]
    if missing:
        raise ValueError(f"{path} has no array {missing[0]!r}.")
    variables = [str(name) for name in found["variables"]]
    if sorted(variables) != sorted(VARIABLES):
        raise ValueError(f"{path} has variables {sorted(variables)}, expected {sorted(VARIABLES)}.")
    count = len(found["died"])
    for name, shape in {"values": (count, HOURS, len(VARIABLES)), "static": (count, len(STATIC))}.items():
        if found[name].shape != shape:
            raise ValueError(f"{path} has {name} of shape {found[name].shape}, expected {shape}.")
    rows = {name: torch.from_numpy(found[name].astype(np.int64)) for name in names}
    for name, numbers in rows.items():
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < count:
            raise ValueError(f"{path} has rows in {name} that are not among its {count} stays.")
    splits = tuple({part: rows[f"split{number}_{part}"] for part in PARTS} for number in range(1, SPLITS + 1))
    return found["values"][..., [variables.index(name) for name in VARIABLES]], found["static"], found["died"], splits


def _draw_split(rows: np.ndarray, seed: int) -> Rows:
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(rows))
    held = len(rows) // 10
    sizes = [len(rows) - 2 * held, held, held]
    return dict(zip(PARTS, shuffled.split(sizes), strict=True))
