"""Predictor: from raw text and arrays to a score or a class, and the share of each modality."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from transformers.utils import cached_file

from derl.data.split import DataError
from derl.evaluate.answer import Answer
from derl.evaluate.conformal import FILE, Calibration
from derl.evaluate.task import Task
from derl.evaluate.tasks import task_of
from derl.model.saved import explained, model_folder, read_model
from derl.model.sentiment import SentimentModel
from derl.predict.processor import DerlProcessor, Sample, is_empty
from derl.predict.trust import Trust


class Predictor:
    """A saved model and its processor, for raw input with anything missing.

    Args:
        model: the model, which is set to evaluation mode.
        processor: the model's processor.
        batch_size: samples per batch.
        trust: the model's intervals. Default: answers have none.

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

    def __init__(
        self,
        model: SentimentModel,
        processor: DerlProcessor,
        *,
        batch_size: int = 64,
        trust: Trust | None = None,
    ) -> None:
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
        self.trust = Trust() if trust is None else trust

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        confidence_level: float | None = None,
        abstain: float | None = None,
        **kwargs: Any,
    ) -> "Predictor":
        """Load a model with its processor and its calibration.

        Args:
            folder: folder written by a run or by ``save_pretrained``, or a model's name on the Hub.
            confidence_level, abstain: see :class:`derl.predict.trust.Trust`.
            kwargs: passed to ``AutoModel.from_pretrained``.

        Raises:
            DataError: The folder holds another kind of model, weights that are incomplete or not in safetensors, or no
                tokenizer for a model that reads text.
            OSError: The folder cannot be read.
        """
        model, processor = read_model(folder, **kwargs), DerlProcessor.from_pretrained(folder)
        found = cached_file(folder, FILE, _raise_exceptions_for_missing_entries=False)
        calibration = None if found is None else Calibration.load(Path(found))
        return cls(model, processor, trust=Trust(calibration, confidence_level, abstain))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the model's modalities, which are the arguments of :meth:`predict`."""
        return tuple(self.model.config.modalities)

    def predict(self, **samples: Any) -> Answer | list[Answer]:
        """Score samples from the modalities that they have.

        Args:
            samples: arguments of :meth:`derl.predict.processor.DerlProcessor.read`: per modality, one sample or a list
                of samples, with None for a missing modality; and ``masks``.

        Returns:
            An answer, or a list of answers for lists. Up to rounding, a sample's answer does not depend on the others.

        Raises:
            DataError: A sample is invalid, or its score is not finite; the message names it and the modality.
        """
        read, single = self.processor.read(**samples)
        answers = self.answer(read)
        return answers[0] if single else answers

    def answer(self, samples: list[Sample], names: Sequence[str] | None = None) -> list[Answer]:
        """Score samples that the processor has read, batching those of similar length.

        A sample without any input is answered by the mean of the training labels, with a warning.

        Args:
            samples: samples of :meth:`derl.predict.processor.DerlProcessor.read`.
            names: names of the samples in an error. Default: "sample 0", "sample 1" .. if there are several.

        Raises:
            DataError: A score is not finite.
        """
        if names is None:
            names = [f"sample {row}" for row in range(len(samples))] if len(samples) > 1 else []
        empty = sum(map(is_empty, samples))
        if empty:
            config = self.model.config
            prior = task_of(config).say_prior(config.mean_label)
            warnings.warn(f"{empty} of {len(samples)} samples have no input at all; {prior}.", stacklevel=2)
        order = sorted(range(len(samples)), key=lambda row: -_size(samples[row]))
        answers: dict[int, Answer] = {}
        for start in range(0, len(samples), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = [samples[row] for row in rows]
            named = [names[row] for row in rows] if names else []
            scored = self.predict_batch(self.processor.batch(batch), lengths_of(batch), named)
            answers.update(zip(rows, scored, strict=True))
        return [answers[row] for row in range(len(samples))]

    @torch.inference_mode()
    def predict_batch(
        self,
        batch: dict[str, dict[str, Tensor]],
        lengths: Mapping[str, Tensor] | None = None,
        names: Sequence[str] = (),
    ) -> list[Answer]:
        """Score a batch of the processor; a modality with nothing kept has weight 0.

        Args:
            batch: ``inputs``, ``masks`` and ``keep``.
            lengths: modality -> ``(B,)``, number of elements of which masks and keep lack some. Default: as many as the
                masks hold.
            names: names of the samples in an error.

        Raises:
            DataError: A score is not finite, as when features overflow float16; the message names the sample and its
                largest value.
        """
        present = torch.stack([batch["keep"][name].any(1) for name in self.modalities], dim=1)
        output = self.model(**send_to_device(batch, self.model.device))
        predictions = output.prediction.float().cpu()
        if not predictions.isfinite().all():
            self._refuse(predictions, batch, names)
        weights: list[dict[str, float] | None] = [None] * len(predictions)
        if output.fusion_weights is not None:
            shares = _shares(output.fusion_weights.cpu().double(), present)
            weights = [dict(zip(self.modalities, row, strict=True)) for row in shares.tolist()]
        quantiles = self.trust.quantiles(present, batch["masks"], batch["keep"], lengths, self.modalities)
        task = task_of(self.model.config)
        answers = task.answers(predictions, weights)
        return [self._trusted(*pair, task) for pair in zip(answers, quantiles, strict=True)]

    def _trusted(self, answer: Answer, quantile: float | None, task: Task) -> Answer:
        if quantile is None:
            return answer
        bounded, width = task.bound(answer, quantile)
        return replace(bounded, abstains=self.trust.abstains(width))

    def _refuse(self, predictions: Tensor, batch: dict[str, dict[str, Tensor]], names: Sequence[str]) -> NoReturn:
        row = int((~predictions.isfinite()).nonzero()[0, 0])
        score = predictions[row].flatten()[~predictions[row].flatten().isfinite()][0].item()
        values = {
            name: part[row][batch["keep"][name][row]].nan_to_num().abs().amax().item()
            for name, part in batch["inputs"].items()
            if part.is_floating_point() and batch["keep"][name][row].any()
        }
        name = max(values, key=values.__getitem__, default=None)
        raise DataError(
            f"Predictor expected finite scores, got {score}{f' for {names[row]}' if names else ''} from a "
            f"model in {self.model.dtype}; load it in float32, or standardize its features in training."
            + ("" if name is None else f" The largest value is {values[name]:.3g}, of {name}.")
        )


def load(path: str | Path) -> Predictor:
    """Load a model from its folder or its run's folder.

    Raises:
        DataError: The model cannot be read; the message says why in one line.
    """
    folder = model_folder(path)
    with explained(folder):
        return Predictor.from_pretrained(folder)


def lengths_of(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return modality -> ``(B,)``, number of elements of each sample, observed or not."""
    return {
        name: torch.tensor([0 if sample[name] is None else len(sample[name]) for sample in samples])
        for name in samples[0]
    }


def _shares(weights: Tensor, present: Tensor) -> Tensor:
    """Sum ``(B, N, 2 M)`` weights over each modality's two views, and normalize over the modalities present."""
    modalities = weights.mean(1).unflatten(1, (2, -1)).sum(1) * present
    return modalities / modalities.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def _size(sample: Sample) -> int:
    return sum(len(part) for part in sample.values() if part is not None)
