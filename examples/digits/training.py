"""Train, select and evaluate both models: the same steps, the same dropped input, the same masks."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from digits.missing import CONDITIONS, TRAIN_PATTERN, everything, keep_masks
from digits.views import Split
from modx.missing import PATTERNS, drop

BATCH_SIZE = 64
WEIGHT_DECAY = 0.01
EVALUATE_EVERY = 5  # epochs
DRAWS = 5  # draws per random condition


def train(model: nn.Module, train: Split, valid: Split, *, learning_rate: float, epochs: int, seed: int) -> float:
    """Train a model with input dropped at random per batch, and restore the weights of its best epoch.

    Args:
        model: has ``loss(views, keep, labels)``, and ``model(views, keep)`` returns logits.
        train, valid: the splits. The best epoch has the highest mean accuracy over all conditions on ``valid``.
        learning_rate: peak learning rate, after a warmup of a tenth of the steps; then cosine decay.
        epochs: number of epochs.
        seed: seed of batches and of dropped input.

    Returns:
        The best epoch's accuracy on ``valid``, in percent.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(train.labels) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    best, best_weights = -1.0, model.state_dict()
    for epoch in range(1, epochs + 1):
        model.train()
        for rows in torch.randperm(len(train.labels), generator=generator).split(BATCH_SIZE):
            views = {name: view[rows] for name, view in train.views.items()}
            keep = drop(
                everything(views), torch.rand(len(rows), generator=generator), TRAIN_PATTERN, generator=generator
            )
            optimizer.zero_grad()
            model.loss(views, keep, train.labels[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        if epoch % EVALUATE_EVERY == 0 or epoch == epochs:
            accuracies = evaluate(model, valid, draws=1)
            score = sum(accuracies.values()) / len(accuracies)
            if score > best:
                best, best_weights = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return best


@torch.no_grad()
def evaluate(
    model: nn.Module, split: Split, conditions: Sequence[str] = CONDITIONS, *, draws: int = DRAWS
) -> dict[str, float]:
    """Return the accuracy in percent under every condition; all models get the same masks."""
    model.eval()
    accuracies = {}
    for condition in conditions:
        generator = torch.Generator().manual_seed(0)
        correct: list[Tensor] = []
        for _ in range(draws if condition.split()[0] in PATTERNS else 1):
            keep = keep_masks(split.views, condition, generator)
            correct.append(model(split.views, keep).argmax(1) == split.labels)
        accuracies[condition] = 100 * torch.cat(correct).double().mean().item()
    return accuracies
