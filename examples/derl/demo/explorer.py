"""Explorer: score one sample, complete and with parts of it dropped."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from derl.data.absence import is_blank
from derl.data.split import Split
from derl.evaluate.answer import Answer
from derl.predict.predictor import Predictor, lengths_of
from derl.predict.processor import Sample
from modx.missing import drop

SHOWN = 100  # number of samples in the list


@dataclass(frozen=True)
class Explored:
    """The model's answers to a sample, and their inputs.

    Attributes:
        complete: the answer to the complete sample.
        answer: the answer to what is kept of it.
        sample: modality -> token ids or frames, or None if missing.
        keep: modality -> bool ``(L,)``, True where an element is kept; only modalities that the sample has.
        label: label of an unedited test sample, otherwise None.
        notes: warnings of the processor.
    """

    complete: Answer
    answer: Answer
    sample: Sample
    keep: dict[str, Tensor]
    label: float | None
    notes: list[str]


class Explorer:
    """A model, and samples to try it on.

    Args:
        predictor: the model.
        split: samples to choose from; None if the user types the text.
    """

    def __init__(self, predictor: Predictor, split: Split | None) -> None:
        self.predictor, self.split = predictor, split

    @property
    def samples(self) -> list[tuple[str, int]]:
        """The first samples, as ``(title, row)``."""
        if self.split is None:
            return []
        count = min(SHOWN, len(self.split))
        if self.split.text is None:
            return [(self.split.ids[row], row) for row in range(count)]
        words = [self.text(row).split()[:3] or [self.split.ids[row]] for row in range(count)]
        return [(f"{row + 1}. {' '.join(first)} ..", row) for row, first in enumerate(words)]

    def text(self, row: int) -> str:
        """Return the words of a sample, empty if it has none."""
        return "" if self.split is None or self.split.text is None else self.split.text[row] or ""

    def explore(
        self,
        row: int | None,
        text: str,
        rate: float | Mapping[str, float],
        pattern: str,
        draw: int = 0,
        abstain: float | None = None,
    ) -> Explored:
        """Score a sample, complete and with some of it dropped.

        Args:
            row: the sample that frames are taken from; None for text only.
            text: the sample's words or other words; blank for no text.
            rate: the missing rate in [0, 1]; one per modality if the pattern drops within a modality.
            pattern: a name in ``modx.missing.PATTERNS``.
            draw: index of the random draw. Within one draw, a higher rate drops more.
            abstain: the widest interval, or the largest set of classes, with which the score is an answer. Default:
                the predictor's.

        Raises:
            DataError: The sample has no input at all.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            (sample,), _ = self.predictor.processor.read(**self._raw(row, text))
        batch = self.predictor.processor.batch([sample, sample])
        there = [name for name, part in sample.items() if part is not None]
        keep = self._drop({name: batch["keep"][name][1:] for name in there}, rate, pattern, draw)
        for name in there:
            batch["keep"][name][1:] = keep[name]
        complete, answer = self.predictor.predict_batch(batch, lengths_of([sample, sample]))
        if abstain is not None and answer.width is not None:
            answer = replace(answer, abstains=answer.width > abstain)
        return Explored(
            complete,
            answer,
            sample,
            {name: part[0] for name, part in keep.items()},
            self.split.labels[row].item() if row is not None and text == self.text(row) else None,
            [str(warning.message) for warning in caught],
        )

    def _raw(self, row: int | None, text: str) -> dict[str, str | Tensor]:
        raw: dict[str, str | Tensor] = {}
        if "text" in self.predictor.modalities and not is_blank(text):
            raw["text"] = text
        if row is not None:
            for name, frames in self.split.features.items():
                if name in self.predictor.modalities:
                    raw[name] = frames[row][: int(self.split.lengths[name][row])]
        return raw

    def _drop(
        self, masks: dict[str, Tensor], rate: float | Mapping[str, float], pattern: str, draw: int
    ) -> dict[str, Tensor]:
        shared, *own = (
            torch.Generator().manual_seed(draw * (len(self.predictor.modalities) + 1) + number)
            for number in range(len(self.predictor.modalities) + 1)
        )
        if isinstance(rate, Mapping):
            rate = {name: rate[name] for name in masks}
        generators = dict(zip(self.predictor.modalities, own, strict=True))
        return drop(masks, rate, pattern, generator=generators, shared_generator=shared)
