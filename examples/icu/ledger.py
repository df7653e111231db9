"""Ledger: finished runs, so that a command that was stopped goes on where it was."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Key = dict[str, Any]  # what tells runs apart
Record = dict[str, Any]  # a key, what was measured, and where


class Ledger:
    """Records of finished runs in a file of JSON lines.

    Args:
        path: The file, which may not exist yet. None: nothing is kept.

    Raises:
        ValueError: A line is not a record.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.records = path, []
        if path and path.exists():
            lines = path.read_text().splitlines(keepends=True)
            cut = lines.pop() if lines and not lines[-1].endswith("\n") else ""
            self.records = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]
            if cut.startswith("{"):  # a write was cut off: the next record needs a line of its own
                path.write_text("".join(lines))
            elif cut:
                _parse(path, len(lines) + 1, cut)

    def find(self, run_key: Key, parts: Sequence[str]) -> Record | None:
        """Return the newest record of a run that has scores for all parts."""
        for record in reversed(self.records):
            if run_key.items() <= record.items() and all(part in record for part in parts):
                return record
        return None

    def add(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def _parse(path: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
        if isinstance(record, dict) and {"model", "split", "seed"} <= record.keys():
            return record
    except json.JSONDecodeError:
        pass
    raise ValueError(f"{path}, line {number}: not a record of this example; choose another file.")
