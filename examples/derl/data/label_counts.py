"""Counts of negative, zero and positive labels, compared with the paper's."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from derl.data.printed import DATA_SETS, PRINTED
from derl.data.shards import ShardedSplit
from derl.data.split import Split


def label_counts(labels: Tensor) -> list[int]:
    """Count negative, zero and positive labels.

    Example:
        >>> import torch
        >>> label_counts(torch.tensor([-1.0, 0.0, 0.2, 3.0]))
        [1, 1, 2]
    """
    return [int(part.sum()) for part in (labels < 0, labels == 0, labels > 0)]


def describe_label_counts(splits: Mapping[str, Split | ShardedSplit], preset: str) -> list[str]:
    """Compare the counts with the paper's, one line per split; empty for a preset without a data set in the paper."""
    lines = []
    for name, printed in PRINTED["Table A.7"].get(DATA_SETS.get(preset), {}).items():
        found = label_counts(splits[name].labels)
        verdict = ", as in the paper's Table A.7"
        if found != printed:
            verdict = f"; the paper's Table A.7 has {_show(printed)}"
        lines.append(f"{name}: {_show(found)} negative/zero/positive{verdict}")
    return lines


def _show(counts: Sequence[int]) -> str:
    return "/".join(map(str, counts))
