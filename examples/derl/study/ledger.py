"""The state of a study's cells: records of finished ones, one lock per cell, and an Optuna study.

The records are authoritative. Locks belong to the operating system, which releases them when a process is killed, so
its cell is free immediately. Optuna's journal lists every attempt and its outcome; ``optuna-dashboard
STUDY/journal.log`` shows them.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from derl.data.files import whole
from derl.study.cells import Cell


class RecordError(ValueError):
    """The file of a cell cannot be read."""


@dataclass(frozen=True)
class Record:
    """The outcome of a cell.

    Attributes:
        facts: JSON data: names of the conditions, seconds, sizes, versions, diagnostics. "value" is reported to Optuna:
            the validation MAE of the last epoch over all conditions.
        arrays: "valid" and "test", ``(epochs, conditions, n)``, scores after every epoch; "patterns", ``(conditions,
            n)``, scores of the selected epoch on the test split; "labels_train", "labels_valid", "labels_test",
            ``(n,)``.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def save(self, path: Path) -> None:
        """Write the file atomically."""
        with whole(path) as draft:
            save_file(self.arrays, draft, metadata={"facts": json.dumps(self.facts)})

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a file that ``save`` wrote.

        Raises:
            RecordError: The file was not written by ``save``, or is incomplete.
        """
        try:
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                return cls(json.loads((file.metadata() or {})["facts"]), arrays)
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise RecordError(
                f"{path}: expected the file of a finished cell, found {error}; delete it to run the cell again."
            ) from error


CELLS = "cells"
JOURNAL = "journal.log"


class Ledger:
    """The cells of a study folder.

    Args:
        folder: the study's folder; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell) -> Path:
        """Return the path of a cell's record."""
        return self.folder / CELLS / f"{cell.key}.safetensors"

    def work_folder(self, cell: Cell) -> Path:
        """Return the folder in which a cell is trained."""
        return self.folder / CELLS / f".{cell.key}.work"

    def is_done(self, cell: Cell) -> bool:
        """Return whether a cell has a record."""
        return self.path(cell).exists()

    def record(self, cell: Cell) -> Record:
        """Read the record of a finished cell."""
        return Record.load(self.path(cell))

    def finished(self) -> list[Path]:
        """Return the paths of all records, sorted."""
        return sorted((self.folder / CELLS).glob("*seed=*.safetensors"))

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells without a record."""
        return [cell for cell in cells if not self.is_done(cell)]

    def attempts(self, cell: Cell) -> list[FrozenTrial]:
        """Return every attempt at a cell."""
        return [trial for trial in self._study.get_trials() if trial.user_attrs.get("cell") == cell.key]

    @contextmanager
    def claim(self, cell: Cell) -> Iterator["Claim | None"]:
        """Lock a cell so that no other process runs it; yield None if it is done or locked by another process."""
        (self.folder / CELLS).mkdir(exist_ok=True)
        lock = FileLock(self.folder / CELLS / f".{cell.key}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield None
            return
        try:
            self._tidy(cell)
            if self.is_done(cell):
                yield None
                return
            trial = self._study.ask()
            trial.set_user_attr("cell", cell.key)
            try:
                yield Claim(self, cell, trial)
            except BaseException:
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                raise
        finally:
            lock.release()

    def _tidy(self, cell: Cell) -> None:
        """Close attempts whose process has died; a free lock proves that it has."""
        for trial in self.attempts(cell):
            if trial.state == TrialState.RUNNING:
                if self.is_done(cell):  # killed after the record, before the journal
                    self._study.tell(trial.number, self.record(cell).facts["value"])
                else:
                    self._study.tell(trial.number, state=TrialState.FAIL)

    @cached_property
    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(logging.WARNING)
        journal = self.folder / JOURNAL
        with FileLock(self.folder / CELLS / ".journal.lock"):
            if not journal.exists():
                journal.touch()
            _cut_torn_line(journal)
            storage = JournalStorage(JournalFileBackend(str(journal)))
            return optuna.create_study(storage=storage, study_name="cells", load_if_exists=True)


class Claim:
    """A cell that this process has locked."""

    def __init__(self, ledger: Ledger, cell: Cell, trial: optuna.Trial) -> None:
        self._ledger, self._cell, self._trial = ledger, cell, trial

    def finish(self, record: Record) -> None:
        """Save the record, which makes the cell done."""
        record.save(self._ledger.path(self._cell))
        self._ledger._study.tell(self._trial, record.facts["value"])


def _cut_torn_line(journal: Path) -> None:
    """Remove an incomplete last line, which a full disk leaves and Optuna cannot read past."""
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with journal.open("r+b") as file:
            file.truncate(whole)
