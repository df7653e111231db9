"""One run: a model, a split, a seed. It ends as one record of a ledger."""

import json
import os
import platform
import subprocess
from pathlib import Path
from time import process_time
from typing import Any

import torch

from icu.missing import CONDITIONS, hide
from icu.models import NETWORKS
from icu.scores import score
from icu.stays import Stays
from icu.tables import TABLES
from icu.training import train_network

MODELS = (*NETWORKS, *TABLES)
Record = dict[str, Any]
Key = dict[str, Any]


def key(model: str, split: int, seed: int, epochs: int, learning_rate: float) -> Key:
    """Return what tells runs apart; scikit-learn's models have neither epochs nor a learning rate."""
    settings = {"epochs": epochs, "learning_rate": learning_rate} if model in NETWORKS else {}
    return {"model": model, "split": split, "seed": seed, **settings}


def run(run_key: Key, stays: Stays, parts: tuple[str, ...]) -> Record:
    """Train on a split's training stays and score every condition on some of its other parts."""
    started = process_time()
    options = dict(run_key)
    model, rows = options.pop("model"), stays.splits[options.pop("split") - 1]
    train = stays.take(rows["train"])
    predict = train_network(NETWORKS[model], train, **options) if model in NETWORKS else TABLES[model](train, **options)
    seconds = process_time() - started
    scores = {}
    for part in parts:
        held = stays.take(rows[part])
        scores[part] = {name: score(held.died.numpy(), predict(hide(held, name))) for name in CONDITIONS}
    return run_key | scores | {"seconds": round(seconds)} | _origin()


class Ledger:
    """Records of finished runs in a file of JSON lines, so that a stopped command goes on where it was.

    Args:
        path: The file, which may not exist yet. None: nothing is kept.

    Raises:
        ValueError: A line is not a record.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.records = path, []
        if path and path.exists():
            lines = path.read_text().splitlines(keepends=True)
            if lines and not lines[-1].endswith("\n"):  # a write that was cut off
                path.write_text("".join(lines[:-1]))
                lines = lines[:-1]
            self.records = [_parse(path, number, line) for number, line in enumerate(lines, start=1)]

    def find(self, run_key: Key, parts: tuple[str, ...]) -> Record | None:
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


def _origin() -> Record:
    """Return which code ran, and where."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or not a clone
        commit = None
    processor = names[0] if names else platform.machine()
    return {"commit": commit, "processor": processor, "cores": os.cpu_count(), "torch": torch.__version__}
