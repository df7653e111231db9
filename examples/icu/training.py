"""Train a network: the same steps, the same missing input and the same averaging for all."""

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from icu.front import describe
from icu.missing import copies
from icu.models import Network
from icu.ranks import Ranks
from icu.stays import Stays

BATCH_SIZE = 256
WEIGHT_DECAY = 0.1
DECAY = 0.99  # of the weights' moving average, per step


class Trained:
    """A trained network and the ranks it reads; call it with stays."""

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        self.network, self.ranks = network, ranks

    def __call__(self, stays: Stays) -> np.ndarray:
        """Return the probability of death ``(S,)``."""
        described = describe(self.ranks(stays))
        with torch.inference_mode():
            rows = torch.arange(len(stays.died)).split(512)
            return torch.cat([self.network(described.take(part)) for part in rows]).sigmoid().numpy()


def train_network(kind: type[Network], train: Stays, *, learning_rate: float, epochs: int, seed: int) -> Trained:
    """Train for a fixed number of epochs; return the moving average of the weights.

    Args:
        kind: Class of the network.
        train: The training stays; ranks come from these alone.
        learning_rate: Peak learning rate, after a warmup of a tenth of the steps; then cosine decay.
        epochs: Number of epochs.
        seed: Seed of initial weights, batches and dropped input.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network, ranks = kind(train.died.mean().item()), Ranks(train)
    described = [describe(part) for part in copies(ranks(train), generator)]
    steps = epochs * -(-len(train.died) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    for epoch in range(epochs):
        for rows in torch.randperm(len(train.died), generator=generator).split(BATCH_SIZE):
            optimizer.zero_grad()
            network.loss(described[epoch % len(described)].take(rows), train.died[rows]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
    return Trained(average.eval(), ranks)
