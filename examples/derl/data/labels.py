"""Labels that are classes: named in a table, whole numbers elsewhere."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch

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


def _relabeled(split: Split | ShardedSplit, numbers: torch.Tensor, classes: list[str]) -> Split | ShardedSplit:
    if isinstance(split, Split):
        return replace(split, labels=numbers.float(), classes=classes)
    changed = copy.copy(split)
    changed.labels, changed.classes = numbers.float(), classes
    return changed
