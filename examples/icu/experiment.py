"""One run: a model, a split, a seed. It ends as one record."""

import os
import subprocess
from pathlib import Path
from time import process_time

import torch

from icu.ledger import Key, Record
from icu.missing import CONDITIONS, hide
from icu.models import NETWORKS
from icu.scores import score
from icu.stays import Stays
from icu.tables import TABLES
from icu.training import train_network
from machine import processor

MODELS = (*NETWORKS, *TABLES)


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


def _origin() -> Record:
    """Return which code ran, and where."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or not a clone
        commit = None
    return {"commit": commit, "processor": processor(), "cores": os.cpu_count(), "torch": torch.__version__}
