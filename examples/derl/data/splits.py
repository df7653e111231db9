"""Which rows of a table train, validate and test: as its column says, or drawn by group."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from derl.data.split import SPLITS, DataError

NAMES = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid"}
NAMES |= {"test": "test", "testing": "test"}
TEST_SHARE, VALID_SHARE = 0.2, 0.125  # of the groups; of those that the test leaves: 70, 10 and 20 percent


def draw_splits(groups: Sequence[str], seed: int) -> list[str]:
    """Assign 70 percent of the groups to train, 10 to valid and 20 to test, never one group to two of them.

    Raises:
        DataError: There are fewer than three groups.

    Example:
        >>> splits = draw_splits([f"speaker {row // 2}" for row in range(20)], seed=0)
        >>> {name: splits.count(name) for name in SPLITS}
        {'train': 14, 'valid': 2, 'test': 4}
        >>> splits[::2] == splits[1::2]
        True
    """
    if len(set(groups)) < len(SPLITS):
        raise DataError(
            f"expected at least {len(SPLITS)} groups to draw the splits from, found {len(set(groups))}; add a column "
            "split, or name another column with --group."
        )
    splits = np.array(["train"] * len(groups), dtype=object)
    splits[_draw(groups, TEST_SHARE, seed)] = "test"
    return draw_valid(splits.tolist(), groups, seed)


def draw_valid(splits: Sequence[str], groups: Sequence[str], seed: int) -> list[str]:
    """Move an eighth of the training groups to valid.

    Raises:
        DataError: There are fewer than two groups to train on.
    """
    rows = [row for row, name in enumerate(splits) if name == "train"]
    if len({groups[row] for row in rows}) < 2:
        raise DataError(
            "expected at least two groups to train and validate on, found fewer; add rows with split valid."
        )
    moved = {rows[row] for row in _draw([groups[row] for row in rows], VALID_SHARE, seed)}
    return ["valid" if row in moved else name for row, name in enumerate(splits)]


def _draw(groups: Sequence[str], share: float, seed: int) -> list[int]:
    _, drawn = next(GroupShuffleSplit(1, test_size=share, random_state=seed).split(groups, groups=groups))
    return drawn.tolist()
