"""Score a split under many conditions in one pass of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset
from transformers import Trainer

from derl.data.missing import MissingDataset


@dataclass(frozen=True)
class Predicted:
    """A model's answers to n samples, ``(n,)`` or ``(n, C)``, its routers' weights, and which had nothing left."""

    scores: Tensor
    expert_weights: dict[str, Tensor]
    fusion_weights: Tensor | None
    nothing_left: Tensor


def predict(trainer: Trainer, datasets: Mapping[str, MissingDataset]) -> dict[str, Predicted]:
    """Score every dataset, batching samples of similar length to save padding.

    A sample's conditions follow one another, so that the text encoder meets a text that they share once.
    """
    everything = ConcatDataset(datasets.values())
    lengths = np.concatenate([sum(dataset.lengths().values()) for dataset in datasets.values()])
    samples = np.concatenate([np.arange(len(dataset)) for dataset in datasets.values()])
    order = np.lexsort((samples, -lengths))
    outputs = trainer.predict(Subset(everything, order.tolist())).predictions
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    back = torch.from_numpy(np.argsort(order))
    parts = [_rows(output, back) for output in outputs]
    tensors = [part for part in parts[1:] if isinstance(part, Tensor)]
    sizes = [len(dataset) for dataset in datasets.values()]
    return {
        name: Predicted(
            scores=_cut(parts[0], start, size).float(),
            expert_weights=next((_cut(part, start, size) for part in parts[1:] if isinstance(part, dict)), {}),
            fusion_weights=next((_cut(part, start, size) for part in tensors if part.dtype != torch.bool), None),
            nothing_left=next(_cut(part, start, size) for part in tensors if part.dtype == torch.bool),
        )
        for name, start, size in zip(datasets, np.cumsum([0, *sizes[:-1]]).tolist(), sizes, strict=True)
    }


def _rows(output: Any, index: Tensor) -> Any:
    if isinstance(output, Mapping):
        return {name: _rows(part, index) for name, part in output.items()}
    return torch.as_tensor(output)[index]


def _cut(part: Any, start: int, size: int) -> Any:
    if isinstance(part, Mapping):
        return {name: _cut(value, start, size) for name, value in part.items()}
    return part[start : start + size]
