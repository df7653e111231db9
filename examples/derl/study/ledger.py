"""Which cells are done, and who works on which: an Optuna study beside one lock a cell.

Optuna's journal says what became of every attempt (`optuna-dashboard study/journal.log` shows it). A lock is the
operating system's: it is gone with the process that held it, so a killed one's cell is free again at once.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from derl.study.cell import Cell
from derl.study.record import Record

CELLS = "cells"


class Ledger:
    """The cells of a study folder.

    Args:
        folder: of the study; it exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / CELLS).mkdir(exist_ok=True)
        optuna.logging.set_verbosity(logging.WARNING)
        with FileLock(folder / CELLS / ".journal.lock"):
            storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
            self._study = optuna.create_study(storage=storage, study_name="cells", load_if_exists=True)

    def path(self, cell: Cell) -> Path:
        """The file of a cell's record."""
        return self.folder / CELLS / f"{cell.key}.safetensors"

    def work_folder(self, cell: Cell) -> Path:
        """Where a cell is trained."""
        return self.folder / CELLS / f".{cell.key}.work"

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell has its record."""
        return self.path(cell).exists()

    def record(self, cell: Cell) -> Record:
        """What a finished cell left behind."""
        return Record.load(self.path(cell))

    def finished(self) -> list[Path]:
        """The files of all records, sorted."""
        return sorted((self.folder / CELLS).glob("*seed=*.safetensors"))

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those without a record."""
        return [cell for cell in cells if not self.is_done(cell)]

    def attempts(self, cell: Cell) -> list[FrozenTrial]:
        """Every attempt at a cell."""
        return [trial for trial in self._study.get_trials() if trial.user_attrs.get("cell") == cell.key]

    @contextmanager
    def claim(self, cell: Cell) -> Iterator["Claim | None"]:
        """Hold a cell, so that nobody else runs it; None where it is done or somebody else holds it."""
        lock = FileLock(self.folder / CELLS / f".{cell.key}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield None
            return
        try:
            if self.is_done(cell):
                yield None
                return
            for trial in self.attempts(cell):
                if trial.state == TrialState.RUNNING:  # its process is gone: the lock was free
                    self._study.tell(trial.number, state=TrialState.FAIL)
            trial = self._study.ask()
            trial.set_user_attr("cell", cell.key)
            try:
                yield Claim(self, cell, trial)
            except BaseException:
                self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
                raise
        finally:
            lock.release()


class Claim:
    """A cell that this process alone works on."""

    def __init__(self, ledger: Ledger, cell: Cell, trial: optuna.Trial) -> None:
        self._ledger, self._cell, self._trial = ledger, cell, trial

    def finish(self, record: Record) -> None:
        """Keep the record; the cell is done."""
        record.save(self._ledger.path(self._cell))
        self._ledger._study.tell(self._trial, record.facts["value"])
