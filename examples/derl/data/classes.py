"""The seven classes of sentiment, -3 to 3."""

from typing import TypeVar

import numpy as np
from torch import Tensor

LIMIT = 3  # labels of sentiment lie in [-LIMIT, LIMIT]
Scores = TypeVar("Scores", Tensor, np.ndarray)


def seven_classes(scores: Scores) -> Scores:
    """Round scores to the nearest of the seven classes, as Acc-7 does.

    Example:
        >>> import torch
        >>> seven_classes(torch.tensor([-4.2, 0.4, 0.6, 2.5]))
        tensor([-3.,  0.,  1.,  2.])
    """
    return scores.clip(-LIMIT, LIMIT).round()
