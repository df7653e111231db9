"""What a cell leaves behind: every score it gave, and the facts of its run, in one safetensors file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from derl.data.files import whole


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
        with whole(path) as draft:
            save_file(self.arrays, draft, metadata={"facts": json.dumps(self.facts)})

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
