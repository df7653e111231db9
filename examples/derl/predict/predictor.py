"""Predictor: from raw text and arrays to a score, its class, and the modalities that carried it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from derl.data.classes import seven_classes
from derl.model.saved import explained, model_folder, read_model
from derl.model.sentiment import SentimentModel
from derl.predict.processor import DerlProcessor, Sample

CLASS_NAMES = {
    -3: "strongly negative",
    -2: "negative",
    -1: "weakly negative",
    0: "neutral",
    1: "weakly positive",
    2: "positive",
    3: "strongly positive",
}


@dataclass(frozen=True)
class Answer:
    """What a model says of one sample.

    Attributes:
        score: sentiment; labels lie in [-3, 3], a score may lie beyond.
        sentiment: one of the seven classes of Acc-7, -3 to 3: the score clipped, then rounded, halves to even.
        weights: for every modality its share of the fusion's router weights, both views together, averaged over tokens.
            A modality that is missing has 0, and the others sum to 1. None for a model without fusion, the plain
            baseline.
    """

    score: float
    sentiment: int
    weights: dict[str, float] | None

    @property
    def name(self) -> str:
        """The class in words, "strongly negative" to "strongly positive"."""
        return CLASS_NAMES[self.sentiment]


class Predictor:
    """A saved model and its processor, for raw input with anything missing.

    Args:
        model: put into evaluation mode.
        processor: of the same model.
        batch_size: samples the model sees at once.

    Raises:
        ValueError: ``batch_size`` is below 1.
        TypeError: an argument is of another kind.

    Example:
        >>> from derl import DerlConfig, DerlModel
        >>> config = DerlConfig.smoke(modalities=["audio", "vision"])
        >>> predictor = Predictor(DerlModel(config), DerlProcessor(config, None))
        >>> answer = predictor.predict(audio=torch.randn(30, 5))
        >>> answer.weights
        {'audio': 1.0, 'vision': 0.0}
    """

    def __init__(self, model: SentimentModel, processor: DerlProcessor, *, batch_size: int = 64) -> None:
        for name, value, kind in (("model", model, SentimentModel), ("processor", processor, DerlProcessor)):
            if not isinstance(value, kind):
                raise TypeError(
                    f"Predictor expected {name} to be a {kind.__name__}, got {type(value).__name__}; read both by "
                    "Predictor.from_pretrained."
                )
        if not isinstance(batch_size, int) or isinstance(batch_size, bool):
            raise TypeError(f"Predictor expected batch_size to be an int, got {batch_size!r}; pass a whole number.")
        if batch_size < 1:
            raise ValueError(f"Predictor expected batch_size >= 1, got {batch_size}; pass a larger number.")
        self.model, self.processor, self.batch_size = model.eval(), processor, batch_size

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> "Predictor":
        """Read a model with its processor.

        Args:
            folder: that a run or ``save_pretrained`` wrote, or a model's name on the Hub.
            kwargs: as of ``AutoModel.from_pretrained``.

        Raises:
            DataError: it holds another kind of model, weights that are not all there or not in safetensors, or no
                tokenizer where the model reads text.
            OSError: it cannot be read.
        """
        return cls(read_model(folder, **kwargs), DerlProcessor.from_pretrained(folder))

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads, and the names that :meth:`predict` takes."""
        return tuple(self.model.config.modalities)

    def predict(self, **samples: Any) -> Answer | list[Answer]:
        """Score samples from whatever there is of them.

        Args:
            samples: As for :meth:`derl.predict.processor.DerlProcessor.read`: per modality of the model, one sample or
                a list of samples, None for what is missing.

        Returns:
            An answer, or a list of them where lists were given. A sample's answer does not depend on the others
            beyond rounding.

        Raises:
            DataError: says which modality and sample does not fit.
        """
        read, single = self.processor.read(**samples)
        answers = self.answer(read)
        return answers[0] if single else answers

    def answer(self, samples: list[Sample]) -> list[Answer]:
        """Score samples that the processor has read, those of like length together."""
        order = sorted(range(len(samples)), key=lambda row: -_size(samples[row]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(samples), self.batch_size):
            rows = order[start : start + self.batch_size]
            answers.update(zip(rows, self.judge(self.processor.batch([samples[row] for row in rows])), strict=True))
        return [answers[row] for row in range(len(samples))]

    @torch.inference_mode()
    def judge(self, batch: dict[str, dict[str, Tensor]]) -> list[Answer]:
        """Score a batch as the processor makes it; a modality of which nothing was kept has no weight."""
        present = torch.stack([batch["keep"][name].any(1) for name in self.modalities], dim=1)
        inputs = {
            name: part.to(self.model.dtype) if part.is_floating_point() else part
            for name, part in batch["inputs"].items()
        }
        output = self.model(**send_to_device(batch | {"inputs": inputs}, self.model.device))
        scores = output.prediction.float().cpu()
        classes = seven_classes(scores).int()
        weights: list[dict[str, float] | None] = [None] * len(scores)
        if output.fusion_weights is not None:
            shares = _shares(output.fusion_weights.double().cpu(), present)
            weights = [dict(zip(self.modalities, row, strict=True)) for row in shares.tolist()]
        return [Answer(*row) for row in zip(scores.tolist(), classes.tolist(), weights, strict=True)]


def load(path: str | Path) -> Predictor:
    """Read the model of a run's folder or of its own.

    Raises:
        DataError: says in one line why it cannot be read.
    """
    folder = model_folder(path)
    with explained(folder):
        return Predictor.from_pretrained(folder)


def _shares(weights: Tensor, present: Tensor) -> Tensor:
    """Sum ``(B, N, 2 M)`` weights over a modality's two views, and share them out among those that are present."""
    modalities = weights.mean(1).unflatten(1, (2, -1)).sum(1) * present
    return modalities / modalities.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def _size(sample: Sample) -> int:
    return sum(len(part) for part in sample.values() if part is not None)
