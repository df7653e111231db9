"""One file from data to a number: classify recordings of two sensors with missing parts.

python examples/minimal.py        # a few seconds on one core; nothing is downloaded

Each sample is an event that a microphone and a camera record as frames of noise. In each recording, two frames hold the
pattern of the event's class. Training drops frames and whole modalities at random. Then both models are tested on
complete and on incomplete recordings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import modx
from modx.missing import drop, erase, keep_modalities

SAMPLES, TRAIN, CLASSES = 2000, 1500, 10
WIDTHS = {"audio": 6, "video": 8}  # features per frame
LENGTHS = {"audio": 20, "video": 12}  # maximum number of frames; the minimum is half
EPOCHS, BATCH_SIZE, LEARNING_RATE, DIM = 15, 64, 3e-3, 32

Parts = dict[str, Tensor]


def load() -> tuple[Parts, Parts, Tensor]:
    """Make inputs ``(n, L, width)`` and masks ``(n, L)`` per modality, and labels ``(n,)``."""
    labels = torch.randint(CLASSES, (SAMPLES,))
    patterns = {name: 3 * F.normalize(torch.randn(CLASSES, width), dim=-1) for name, width in WIDTHS.items()}
    samples = []
    for label in labels:
        sample = {}
        for name, most in LENGTHS.items():
            length = int(torch.randint(most // 2, most + 1, ()))
            sample[name] = torch.randn(length, WIDTHS[name])
            start = int(torch.randint(length - 1, ()))
            sample[name][start : start + 2] += patterns[name][label]
        samples.append(sample)
    return *modx.collate(samples), labels


class Fusion(nn.Module):
    """modx's fusion of both modalities, with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.fusion = modx.MissingModalityFusion(
            WIDTHS,
            DIM,
            num_tokens=2,
            max_lengths=LENGTHS,
            num_heads=4,
            head_dim=16,
            orthogonality_penalty="square",
            dropped_modality="absent",
        )
        self.head = nn.Linear(DIM, CLASSES)

    def forward(self, inputs: Parts, masks: Parts, keep: Parts) -> tuple[Tensor, Tensor | float]:
        """Return logits and auxiliary losses."""
        output = self.fusion(inputs, masks, keep)
        return self.head(output.features.mean(1)), 0.1 * sum(output.losses or ())


class Concatenation(nn.Module):
    """The baseline: an MLP on all frames concatenated; a missing frame is zeros and a flag."""

    def __init__(self) -> None:
        super().__init__()
        width = sum(LENGTHS[name] * (WIDTHS[name] + 1) for name in WIDTHS)
        self.mlp = nn.Sequential(
            nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, CLASSES)
        )

    def forward(self, inputs: Parts, masks: Parts, keep: Parts) -> tuple[Tensor, Tensor | float]:
        """Return logits and auxiliary losses."""
        frames = [torch.cat([erase(inputs[m], keep[m]), keep[m][..., None]], dim=-1).flatten(1) for m in WIDTHS]
        return self.mlp(torch.cat(frames, dim=1)), 0.0


def take(parts: Parts, rows: slice | Tensor) -> Parts:
    """Select rows of every modality."""
    return {name: part[rows] for name, part in parts.items()}


def train(model: nn.Module, inputs: Parts, masks: Parts, labels: Tensor) -> None:
    """Train with dropped frames or modalities: every sample has its own rate, redrawn for every batch."""
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True)
    steps = EPOCHS * -(-len(labels) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels)).split(BATCH_SIZE):
            real = take(masks, rows)
            keep = drop(real, torch.rand(len(rows)), "frames+modalities")
            logits, beside = model(take(inputs, rows), real, keep)
            loss = F.cross_entropy(logits, labels[rows]) + beside
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def main() -> dict[str, dict[str, float]]:
    """Train both models; print and return their accuracies in percent, by what is missing."""
    torch.manual_seed(0)
    inputs, masks, labels = load()
    models = {"fusion": Fusion(), "concatenation": Concatenation()}
    for model in models.values():
        train(model, take(inputs, slice(TRAIN)), take(masks, slice(TRAIN)), labels[:TRAIN])
        model.eval()
    inputs, masks, labels = take(inputs, slice(TRAIN, None)), take(masks, slice(TRAIN, None)), labels[TRAIN:]
    conditions = {
        "nothing": masks,
        "half of all frames": drop(masks, 0.5, "frames"),
        "video": keep_modalities(masks, {"audio"}),
        "audio": keep_modalities(masks, {"video"}),
    }
    found: dict[str, dict[str, float]] = {}
    print(f"{'missing':<20}" + "".join(f"{name:>15}" for name in models))
    for condition, keep in conditions.items():
        with torch.no_grad():
            right = {name: model(inputs, masks, keep)[0].argmax(1) == labels for name, model in models.items()}
        found[condition] = {name: 100 * part.float().mean().item() for name, part in right.items()}
        print(f"{condition:<20}" + "".join(f"{value:>14.1f}%" for value in found[condition].values()))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors are too small for a second thread to help
    main()
