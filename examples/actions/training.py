"""Train and evaluate a network: the same steps, the same dropped frames and the same masks for all."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from actions.augment import draw_change
from actions.clips import MODALITIES
from actions.conditions import TRAIN_PATTERN, PublishedMasks, draws, keep_masks
from actions.recordings import Inputs, Recordings, Scale
from modx.missing import drop

BATCH_SIZE = 32
CLEAN = 0.3  # share of training clips of which nothing is dropped, beside their complete copy
WEIGHT_DECAY = 0.05


def train(
    model: nn.Module, recordings: Recordings, scale: Scale, *, learning_rate: float, epochs: int, seed: int
) -> None:
    """Train a model with frames dropped at random; every step sees each clip incomplete and complete.

    Args:
        model: Has ``loss(inputs, labels)``.
        recordings: The training clips.
        scale: Standardization.
        learning_rate: Peak learning rate, after a warmup of a tenth of the steps; then cosine decay.
        epochs: Number of epochs. The last weights are kept.
        seed: Seed of batches, augmentation and dropped frames.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    count = len(recordings.labels)
    steps = epochs * -(-count // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=generator).split(BATCH_SIZE):
            inputs = draw_pair(recordings, scale, rows, generator)
            optimizer.zero_grad()
            model.loss(inputs, recordings.labels[rows].repeat(2)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def draw_pair(recordings: Recordings, scale: Scale, rows: Tensor, generator: torch.Generator) -> Inputs:
    """Return clips with dropped frames, and below them the same clips complete; both augmented alike."""
    change = draw_change(MODALITIES, len(rows), generator)
    masks = recordings.everything(rows)
    rate, clean = torch.rand(2, len(rows), generator=generator)
    keep = drop(masks, rate * (clean >= CLEAN), TRAIN_PATTERN, generator=generator)
    seen, whole = (scale.apply(recordings.see(rows, kept, change)) for kept in (keep, masks))
    return Inputs(*(_below(first, second) for first, second in zip(seen, whole, strict=True)))


@torch.no_grad()
def evaluate(
    model: nn.Module, recordings: Recordings, scale: Scale, conditions: Sequence[str], published: PublishedMasks | None
) -> dict[str, float]:
    """Return the accuracy in percent under every condition; all models get the same masks."""
    model.eval()
    rows = torch.arange(len(recordings.labels))
    masks = recordings.everything(rows)
    accuracies = {}
    for condition in conditions:
        generator = torch.Generator().manual_seed(0)
        correct = []
        for _ in range(draws(condition)):
            if condition.startswith("published"):
                keep = published.keep_masks(masks, condition)
            else:
                keep = keep_masks(masks, condition, generator)
            logits = model(scale.apply(recordings.see(rows, keep)))
            correct.append(logits.argmax(1) == recordings.labels)
        accuracies[condition] = 100 * torch.cat(correct).double().mean().item()
    return accuracies


def _below(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([part, second[name]]) for name, part in first.items()}
