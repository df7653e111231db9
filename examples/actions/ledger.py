"""Ledger: one line of JSON per trained model, so that a stopped command continues where it was."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from machine import processor


class Record(NamedTuple):
    """One trained model.

    Attributes:
        model: Name in the table of models.
        seed: Seed of its weights, batches and dropped frames.
        split: What it was evaluated on: "fold N", where N is the subject left out, or "test".
        settings: What else it depends on.
        accuracy: Condition -> percent.
        parameters: Number of parameters.
        seconds: Processor time of training.
        commit: Commit of the code, with a plus sign if files had been changed.
        machine: Processor, cores and version of PyTorch.
    """

    model: str
    seed: int
    split: str
    settings: dict[str, Any]
    accuracy: dict[str, float]
    parameters: int
    seconds: float
    commit: str
    machine: str


class Ledger:
    """The records in a file.

    Args:
        path: A file of JSON lines. It is made when the first record is added.

    Raises:
        ValueError: A line is not a record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(
                    f"Ledger expected a record on line {number} of {str(path)!r}: {error}. Remove the line."
                ) from error
            self.records[_key(*record[:4])] = record

    def find(self, model: str, seed: int, split: str, settings: dict[str, Any]) -> Record | None:
        """Return the last record of such a model, if there is one."""
        return self.records.get(_key(model, seed, split, settings))

    def add(self, record: Record) -> None:
        """Append a record to the file, in one piece."""
        self.records[_key(*record[:4])] = record
        with self.path.open("a") as file:
            file.write(json.dumps(record._asdict()) + "\n")


def _key(model: str, seed: int, split: str, settings: dict[str, Any]) -> str:
    return json.dumps([model, seed, split, settings], sort_keys=True)


def commit() -> str:
    """Return the commit of the code, or "unknown" outside a repository."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    here = Path(__file__).parent

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([git, "-C", str(here), *words], capture_output=True, text=True, check=False)

    found = ask("rev-parse", "--short=10", "HEAD")
    if found.returncode:
        return "unknown"
    return found.stdout.strip() + "+" * bool(ask("status", "--porcelain", "--untracked-files=no").stdout)


def machine() -> str:
    """Return the processor, its cores and the version of PyTorch."""
    return f"{processor()}, {os.cpu_count()} cores, PyTorch {torch.__version__}"
