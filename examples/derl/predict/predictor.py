"""Predictor: from raw text and arrays to a score or a class, and the share of each modality."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from derl.data.classes import seven_classes
from derl.data.split import DataError
from derl.model.saved import explained, model_folder, read_model
from derl.model.sentiment import SentimentModel
from derl.predict.processor import DerlProcessor, Sample, is_empty

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
    """A model's answer to one sample.

    Attributes:
        score: the number predicted, or the probability of the class ``name``.
        weights: modality -> its share of the fusion's router weights, summed over both views and averaged over tokens.
            A missing modality has share 0; the others sum to 1, unless all are missing. None for a model without
            fusion, i.e. the plain baseline.
        name: the class in words; for sentiment, "strongly negative" to "strongly positive". None for other numbers.
        sentiment: class of Acc-7, -3 to 3: the score clipped, then rounded, halves to even. None for other labels.
        probabilities: class -> probability, if the labels are classes.
    """

    score: float
    weights: dict[str, float] | None
    name: str | None = None
    sentiment: int | None = None
    probabilities: dict[str, float] | None = None


class Predictor:
    """A saved model and its processor, for raw input with anything missing.

    Args:
        model: the model, which is set to evaluation mode.
        processor: the model's processor.
        batch_size: samples per batch.

    Raises:
        ValueError: ``batch_size`` is below 1.
        TypeError: An argument has the wrong type.

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
                    f"Predictor expected {name} to be a {kind.__name__}, got {type(value).__name__}; load both "
                    "with Predictor.from_pretrained."
                )
        if not isinstance(batch_size, int) or isinstance(batch_size, bool):
            raise TypeError(f"Predictor expected batch_size to be an int, got {batch_size!r}.")
        if batch_size < 1:
            raise ValueError(f"Predictor expected batch_size >= 1, got {batch_size}.")
        self.model, self.processor, self.batch_size = model.eval(), processor, batch_size

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> "Predictor":
        """Load a model with its processor.

        Args:
            folder: folder written by a run or by ``save_pretrained``, or a model's name on the Hub.
            kwargs: passed to ``AutoModel.from_pretrained``.

        Raises:
            DataError: The folder holds another kind of model, weights that are incomplete or not in safetensors, or no
                tokenizer for a model that reads text.
            OSError: The folder cannot be read.
        """
        return cls(read_model(folder, **kwargs), DerlProcessor.from_pretrained(folder))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the model's modalities, which are the arguments of :meth:`predict`."""
        return tuple(self.model.config.modalities)

    def predict(self, **samples: Any) -> Answer | list[Answer]:
        """Score samples from the modalities that they have.

        Args:
            samples: arguments of :meth:`derl.predict.processor.DerlProcessor.read`: per modality, one sample or a list
                of samples, with None for a missing modality.

        Returns:
            An answer, or a list of answers for lists. Up to rounding, a sample's answer does not depend on the others.

        Raises:
            DataError: A sample is invalid; the message names it and the modality.
        """
        read, single = self.processor.read(**samples)
        answers = self.answer(read)
        return answers[0] if single else answers

    def answer(self, samples: list[Sample]) -> list[Answer]:
        """Score samples that the processor has read, batching those of similar length.

        A sample without any input is answered by the mean of the training labels, with a warning.
        """
        empty = sum(map(is_empty, samples))
        if empty:
            warnings.warn(
                f"{empty} of {len(samples)} samples have no input at all; the mean of the training labels answers "
                f"them: {self.model.config.mean_label:+.3f}.",
                stacklevel=2,
            )
        order = sorted(range(len(samples)), key=lambda row: -_size(samples[row]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(samples), self.batch_size):
            rows = order[start : start + self.batch_size]
            answers.update(
                zip(rows, self.predict_batch(self.processor.batch([samples[row] for row in rows])), strict=True)
            )
        return [answers[row] for row in range(len(samples))]

    @torch.inference_mode()
    def predict_batch(self, batch: dict[str, dict[str, Tensor]]) -> list[Answer]:
        """Score a batch of the processor; a modality with nothing kept has weight 0.

        Raises:
            DataError: A score is not finite, as when features overflow float16.
        """
        present = torch.stack([batch["keep"][name].any(1) for name in self.modalities], dim=1)
        output = self.model(**send_to_device(batch, self.model.device))
        predictions = output.prediction.float().cpu()
        if not predictions.isfinite().all():
            raise DataError(
                f"Predictor expected finite scores, got {predictions[~predictions.isfinite()][0].item()} from a model "
                f"in {self.model.dtype}; load it in float32, or standardize its features in training."
            )
        weights: list[dict[str, float] | None] = [None] * len(predictions)
        if output.fusion_weights is not None:
            shares = _shares(output.fusion_weights.cpu().double(), present)
            weights = [dict(zip(self.modalities, row, strict=True)) for row in shares.tolist()]
        return self._answers(predictions, weights)

    def _answers(self, predictions: Tensor, weights: list[dict[str, float] | None]) -> list[Answer]:
        config = self.model.config
        if config.problem_type != "regression":
            classes = [config.id2label[number] for number in range(config.num_labels)]
            named = [dict(zip(classes, row, strict=True)) for row in predictions.softmax(-1).tolist()]
            likeliest = [max(each, key=each.__getitem__) for each in named]
            return [
                Answer(each[name], shares, name, probabilities=each)
                for each, name, shares in zip(named, likeliest, weights, strict=True)
            ]
        pairs = list(zip(predictions.tolist(), weights, strict=True))
        if not config.sentiment:
            return [Answer(score, shares) for score, shares in pairs]
        numbers = seven_classes(predictions).int().tolist()
        return [
            Answer(score, shares, CLASS_NAMES[number], number)
            for (score, shares), number in zip(pairs, numbers, strict=True)
        ]


def load(path: str | Path) -> Predictor:
    """Load a model from its folder or its run's folder.

    Raises:
        DataError: The model cannot be read; the message says why in one line.
    """
    folder = model_folder(path)
    with explained(folder):
        return Predictor.from_pretrained(folder)


def _shares(weights: Tensor, present: Tensor) -> Tensor:
    """Sum ``(B, N, 2 M)`` weights over each modality's two views, and normalize over the modalities present."""
    modalities = weights.mean(1).unflatten(1, (2, -1)).sum(1) * present
    return modalities / modalities.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def _size(sample: Sample) -> int:
    return sum(len(part) for part in sample.values() if part is not None)
