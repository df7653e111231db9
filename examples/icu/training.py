"""Train a network: the same steps, the same missing input and the same averaging for all."""

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from icu.missing import drop_at_random
from icu.models import Network
from icu.ranks import Ranks
from icu.stays import Stays

BATCH_SIZE = 128
WEIGHT_DECAY = 0.1
DROP_RATE = 0.5  # largest rate at which a stay's hours or modalities are dropped
DECAY = 0.99  # of the weights' moving average, per step


class Trained:
    """A trained network and the ranks it reads; call it with stays."""

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        self.network, self.ranks = network, ranks

    def __call__(self, stays: Stays) -> np.ndarray:
        """Return the probability of death ``(S,)``."""
        placed = self.ranks(stays)
        batches = zip(placed.values.split(512), placed.static.split(512), strict=True)
        with torch.inference_mode():
            return torch.cat([self.network(*batch) for batch in batches]).sigmoid().numpy()


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
    placed = ranks(train)
    steps = epochs * -(-len(train.died) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    for _ in range(epochs):
        for rows in torch.randperm(len(train.died), generator=generator).split(BATCH_SIZE):
            optimizer.zero_grad()
            network.loss(drop_at_random(placed.take(rows), DROP_RATE, generator)).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
    return Trained(average.eval(), ranks)
