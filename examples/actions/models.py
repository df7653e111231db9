"""The models that are compared. ``MODELS`` names them."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actions.blocks import Blocks
from actions.clips import MODALITIES, NUM_ACTIONS
from actions.encode import ClipEncoder, Encoded, Settings
from actions.recordings import Inputs

SMOOTHING = 0.1  # of labels


class LateFusion(nn.Module):
    """A head per modality with a loss of its own; the answer is their mean over what is present.

    Args:
        modalities: Which modalities to read.
        settings: Sizes.
    """

    def __init__(self, modalities: tuple[str, ...] = MODALITIES, settings: Settings = Settings()) -> None:  # noqa: B008
        super().__init__()
        self.modalities = modalities
        self.encode = ClipEncoder(modalities, settings)
        self.dropout = nn.Dropout(settings.dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(settings.dim, NUM_ACTIONS) for name in modalities})

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits ``(B, 27)``; zeros where nothing is present."""
        encoded = self.encode(inputs)
        return self.fused(encoded)[0] + late(self.unimodal(encoded), encoded)

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Return the training loss.

        Args:
            inputs: A batch of incomplete clips, and below it the same clips complete.
            labels: ``(B,)``, repeated likewise.
        """
        encoded = self.encode(inputs)
        answers = self.unimodal(encoded)
        fused, extra = self.fused(encoded)
        each = cross_entropy(answers.flatten(0, 1), labels.repeat_interleave(answers.shape[1]), reduction="none")
        there = present(encoded)
        own = (each.unflatten(0, there.shape) * there).sum() / there.sum()
        return cross_entropy(fused + late(answers, encoded), labels) + own + extra

    def unimodal(self, encoded: Encoded) -> Tensor:
        """Return the logits of every modality, ``(B, M, 27)``."""
        return torch.stack(
            [self.heads[name](self.dropout(encoded.tokens[name].mean(1))) for name in self.modalities], 1
        )

    def fused(self, encoded: Encoded) -> tuple[Tensor | float, Tensor | float]:
        """Return what is added to the mean answer, and what is added to the loss."""
        return 0.0, 0.0


class LateFusionMLP(LateFusion):
    """Late fusion, plus the answer of an MLP on the tokens, whose gradients do not reach the encoder."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008
        super().__init__(settings=settings)
        self.joint = Concatenated(settings)

    def fused(self, encoded: Encoded) -> tuple[Tensor | float, Tensor | float]:
        return self.joint(detached(encoded)), 0.0


class Experts(LateFusion):
    """Late fusion, plus the answer of the library's blocks on the tokens, whose gradients do not reach the encoder."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008
        super().__init__(settings=settings)
        self.blocks = Blocks(MODALITIES, settings)
        self.head = head(settings)

    def fused(self, encoded: Encoded) -> tuple[Tensor | float, Tensor | float]:
        apart = detached(encoded)
        features, views = self.blocks(apart)
        return self.head(features), self.blocks.loss(apart, views) if self.training else 0.0


class PaperComposition(nn.Module):
    """The blocks alone, as the paper composes them: one answer, and one loss for the task."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008
        super().__init__()
        self.encode = ClipEncoder(MODALITIES, settings)
        self.blocks = Blocks(MODALITIES, settings)
        self.head = head(settings)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits ``(B, 27)``."""
        return self.head(self.blocks(self.encode(inputs))[0])

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Return the training loss; arguments as for ``LateFusion.loss``."""
        encoded = self.encode(inputs)
        features, views = self.blocks(encoded)
        return cross_entropy(self.head(features), labels) + self.blocks.loss(encoded, views)


class Concatenation(nn.Module):
    """An MLP on the tokens of all modalities, trained end to end."""

    def __init__(self, settings: Settings = Settings()) -> None:  # noqa: B008
        super().__init__()
        self.encode = ClipEncoder(MODALITIES, settings)
        self.joint = Concatenated(settings)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits ``(B, 27)``."""
        return self.joint(self.encode(inputs))

    def loss(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Return the training loss; arguments as for ``LateFusion.loss``."""
        return cross_entropy(self(inputs), labels)


class Concatenated(nn.Module):
    """An MLP on the mean token of every modality, with zeros for what is absent."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(len(MODALITIES) * settings.dim, 4 * settings.dim),
            nn.GELU(),
            nn.Dropout(settings.dropout),
            nn.Linear(4 * settings.dim, NUM_ACTIONS),
        )

    def forward(self, encoded: Encoded) -> Tensor:
        """Return logits ``(B, 27)``."""
        means = [part.mean(1) * encoded.present[name][:, None] for name, part in encoded.tokens.items()]
        return self.network(torch.cat(means, 1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "experts": Experts,
    "late fusion": LateFusion,
    "late + MLP": LateFusionMLP,
    "concatenation": Concatenation,
    "paper": PaperComposition,
    **{name: partial(LateFusion, (name,)) for name in MODALITIES},
}


def late(answers: Tensor, encoded: Encoded) -> Tensor:
    """Average answers ``(B, M, 27)`` over what is present."""
    there = present(encoded)
    return (answers * there[..., None]).sum(1) / there.sum(1, keepdim=True).clamp(min=1)


def present(encoded: Encoded) -> Tensor:
    """Return which modalities are present, ``(B, M)``."""
    return torch.stack([encoded.present[name] for name in encoded.tokens], 1)


def detached(encoded: Encoded) -> Encoded:
    """Stop the gradient at the tokens."""
    return Encoded({name: part.detach() for name, part in encoded.tokens.items()}, encoded.present)


def head(settings: Settings) -> nn.Module:
    """Make the head on fused features."""
    return nn.Sequential(nn.LayerNorm(settings.dim), nn.Dropout(settings.dropout), nn.Linear(settings.dim, NUM_ACTIONS))


def cross_entropy(logits: Tensor, labels: Tensor, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy with smoothed labels."""
    return F.cross_entropy(logits, labels, label_smoothing=SMOOTHING, reduction=reduction)
