"""Labels by task: classes, named in a table and whole numbers elsewhere, or sentiment in [-3, 3]."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

from derl.data.classes import LIMIT
from derl.data.shards import ShardedSplit
from derl.data.split import DataError, Split

Splits = Mapping[str, Split | ShardedSplit]


def as_classes(splits: Splits) -> Splits:
    """Return splits whose labels are numbers of classes; those of a table are so already.

    Elsewhere, every whole number among the training labels is a class, named by that number.

    Raises:
        DataError: A label is no whole number, or training lacks it.
    """
    if splits["train"].classes:
        return splits
    numbers = splits["train"].labels.unique()
    known = set(numbers.tolist())
    for name, split in splits.items():
        for row, label in enumerate(split.labels.tolist()):
            if not label.is_integer() or label not in known:
                raise DataError(
                    f"{name}: expected whole numbers that training has as labels for --task classify, found {label:g} "
                    f"in row {row}; leave out --task, or write a table with names of classes."
                )
    classes = [f"{number:g}" for number in numbers.tolist()]
    return {
        name: _relabeled(split, torch.searchsorted(numbers, split.labels), classes) for name, split in splits.items()
    }


def check_sentiment(splits: Splits, preset: str) -> None:
    """Refuse labels that are no sentiment, for a preset whose metrics and classes are those of sentiment.

    Raises:
        DataError: A label lies outside [-3, 3]; the message names its row.
    """
    for name, split in splits.items():
        for row in (split.labels.abs() > LIMIT).nonzero().flatten().tolist()[:1]:
            raise DataError(
                f"{name}: expected labels of sentiment, in [-{LIMIT}, {LIMIT}], for --preset {preset}, found "
                f"{split.labels[row]:g} in row {row}; give --preset own for numbers on any scale, or --task classify "
                "for classes."
            )


def _relabeled(split: Split | ShardedSplit, numbers: torch.Tensor, classes: list[str]) -> Split | ShardedSplit:
    if isinstance(split, Split):
        return replace(split, labels=numbers.float(), classes=classes)
    changed = copy.copy(split)
    changed.labels, changed.classes = numbers.float(), classes
    return changed
