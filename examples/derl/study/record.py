"""What a cell leaves behind: every score it gave, and the facts of its run, in one safetensors file."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


class RecordError(ValueError):
    """A cell's file cannot be read."""


@dataclass(frozen=True)
class Record:
    """The outcome of a cell.

    Attributes:
        facts: what fits JSON: names of the conditions, seconds, sizes, versions, diagnostics; "value" is what Optuna
            is told, the validation MAE of the last epoch over all conditions.
        arrays: "valid" and "test", `(epochs, conditions, n)` scores after every epoch; "patterns",
            `(conditions, n)` scores of the chosen epoch on the test split; "labels_train", "labels_valid",
            "labels_test", `(n,)`.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file(self.arrays, temporary, metadata={"facts": json.dumps(self.facts)})
            os.chmod(temporary, 0o666 & ~_umask())  # safetensors writes for its owner alone
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a file that `save` wrote.

        Raises:
            RecordError: it is not such a file, or not whole.
        """
        try:
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
                return cls(json.loads((file.metadata() or {})["facts"]), arrays)
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise RecordError(
                f"{path}: expected the file of a finished cell, found {error}; delete it, and its cell is run again."
            ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
