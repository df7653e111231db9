"""Residual: the block in front of the predictions of DMD and EMOE."""

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Add to x two linear layers of it, with a ReLU and dropout of half of the units in between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(0.5)

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.enter(x))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.leave(self.dropout(self.hidden(x)))
        return x + added
