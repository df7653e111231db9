"""fit: train one model on one split and evaluate it. Only ``split="test"`` reads the even subjects."""

from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from actions.clips import Clips
from actions.conditions import CONDITIONS, PUBLISHED, PublishedMasks
from actions.ledger import Record, commit, machine
from actions.models import MODELS as NETWORKS
from actions.recordings import Recordings, Scale
from actions.svm import StatisticsSVM
from actions.training import evaluate, train

MODELS: dict[str, Callable[[], nn.Module]] = {**NETWORKS, "SVM": StatisticsSVM}


class Task(NamedTuple):
    """What is trained, and on what.

    Attributes:
        clips: All clips.
        masks: File of the published masks, or None.
        epochs: Number of epochs.
        learning_rate: Peak learning rate.
    """

    clips: Clips
    masks: Path | None
    epochs: int
    learning_rate: float

    @property
    def settings(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"epochs": self.epochs, "learning_rate": self.learning_rate, "published": self.masks is not None}


def split_clips(clips: Clips, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows to train on and the rows to evaluate on.

    Args:
        clips: All clips.
        split: "fold N" trains on the odd subjects other than N and evaluates on N; "test" trains on all odd subjects
            and evaluates on the even ones.

    Raises:
        ValueError: Either part has no clips.
    """
    odd = clips.subject % 2 == 1
    held = ~odd if split == "test" else odd & (clips.subject == int(split.removeprefix("fold ")))
    train_rows, rows = np.flatnonzero(odd & ~held), np.flatnonzero(held)
    if not len(train_rows) or not len(rows):
        raise ValueError(
            f"split_clips expected clips of odd subjects, and of those that {split!r} leaves out, "
            f"found subjects {np.unique(clips.subject).tolist()}."
        )
    return train_rows, rows


def fit(name: str, seed: int, split: str, task: Task) -> Record:
    """Train one of ``MODELS`` and evaluate it under every condition."""
    started = process_time()
    train_rows, rows = split_clips(task.clips, split)
    recordings = Recordings(task.clips, train_rows)
    scale = Scale.fit(recordings)
    torch.manual_seed(seed)
    model = MODELS[name]()
    if isinstance(model, StatisticsSVM):
        every = torch.arange(len(train_rows))
        model.fit(scale.apply(recordings.see(every, recordings.everything(every))), recordings.labels)
    else:
        train(model, recordings, scale, learning_rate=task.learning_rate, epochs=task.epochs, seed=seed)
    seconds = round(process_time() - started, 1)
    published = None if task.masks is None else PublishedMasks(task.masks, rows)
    conditions = CONDITIONS if published is None else CONDITIONS + PUBLISHED
    accuracy = evaluate(model, Recordings(task.clips, rows), scale, conditions, published)
    size = sum(parameter.numel() for parameter in model.parameters())
    return Record(
        name,
        seed,
        split,
        task.settings,
        {k: round(v, 3) for k, v in accuracy.items()},
        size,
        seconds,
        commit(),
        machine(),
    )
