"""Batch and Phase: what a model and the trainer tell each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What :meth:`derl.model.sentiment.SentimentModel.losses` compares an output with.

    Attributes:
        labels: ``(B,)``.
        masks, keep: modality -> ``(B, L)``, the arguments of ``forward``; ``keep`` is None if nothing was dropped.
        rows: indices of the samples with dropped elements; None in evaluation, and if nothing was dropped.
        complete_prediction: the complete input's scores of ``rows``; None if they are not compared.
        parts: what else the model needs, of its own making; None in evaluation.
        index: places of the samples in the training split, ``(B,)``; None if the model does not ask for them.
    """

    labels: Tensor
    masks: dict[str, Tensor]
    keep: dict[str, Tensor] | None = None
    rows: Tensor | None = None
    complete_prediction: Tensor | None = None
    parts: Any = None
    index: Tensor | None = None


@dataclass(frozen=True)
class Phase:
    """A phase of training: its name, and its number of epochs. Default: to the end."""

    name: str
    epochs: int | None = None


def phase_at(phases: Sequence[Phase], epoch: int) -> str | None:
    """Return the name of the phase that an epoch belongs to; after the last phase, the first one comes again.

    Example:
        >>> [phase_at([Phase("warm-up", 1), Phase("joint")], epoch) for epoch in range(4)]
        ['warm-up', 'joint', 'joint', 'joint']
        >>> [phase_at([Phase("critic", 1), Phase("all", 2)], epoch) for epoch in range(4)]
        ['critic', 'all', 'all', 'critic']
    """
    for phase in cycle(phases):
        if phase.epochs is None or epoch < phase.epochs:
            return phase.name
        epoch -= phase.epochs
    return None
