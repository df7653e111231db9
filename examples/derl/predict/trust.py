"""How far to trust an answer: its interval, by what is there of the sample, and whether to abstain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from derl.data.split import DataError
from derl.evaluate.conditions import conditions_of
from derl.evaluate.conformal import CONFIDENCE_LEVEL, FILE, Calibration, check_level


@dataclass(frozen=True)
class Trust:
    """The quantiles of intervals or sets of classes, and how wide one may be.

    Attributes:
        calibration: the model's quantiles of errors; None: there are no intervals.
        confidence_level: how often an interval holds, 0.01, 0.02 .. 0.99. Default: 0.9.
        abstain: the widest interval, or the largest set of classes, with which a score is an answer. Default: any.

    Raises:
        ValueError: ``confidence_level`` is not a whole percentage, or ``abstain`` is negative.
        DataError: One of them is given without a calibration.
    """

    calibration: Calibration | None = None
    confidence_level: float | None = None
    abstain: float | None = None

    def __post_init__(self) -> None:
        if self.confidence_level is not None:
            check_level(self.confidence_level)
        if self.abstain is not None and not self.abstain >= 0:
            raise ValueError(
                f"Predictor expected abstain >= 0, got {self.abstain}; pass the widest interval to accept."
            )
        if self.calibration is None and not (self.confidence_level is None and self.abstain is None):
            raise DataError(
                f"Predictor expected {FILE} beside the model for an interval, found none; evaluate its run again: "
                "derl_mosi.py --evaluate RUN."
            )

    @property
    def level(self) -> float:
        """The confidence level, 0.9 by default."""
        return CONFIDENCE_LEVEL if self.confidence_level is None else self.confidence_level

    def quantiles(
        self,
        present: Tensor,
        masks: Mapping[str, Tensor],
        keep: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor] | None,
        modalities: Sequence[str],
    ) -> list[float | None]:
        """Return each sample's quantile, half the width of an interval: the largest of the conditions that it meets.

        Args:
            present: ``(B, M)`` bool, whether anything is kept of each modality.
            masks, keep: of a batch of the processor.
            lengths: modality -> ``(B,)``, number of elements of which masks lack some. Default: none is lacking.
            modalities: the model's modalities, in its order.
        """
        if self.calibration is None:
            return [None] * len(present)
        counts = {name: mask.sum(1) for name, mask in masks.items()} if lengths is None else lengths
        shares = [1 - keep[name].sum(1) / counts[name].clamp(min=1) for name in modalities]
        missing = (torch.stack(shares, dim=1) * present).amax(1).tolist()
        available = [[name for name, there in zip(modalities, row, strict=True) if there] for row in present.tolist()]
        return [
            self.calibration.quantile(conditions_of(*row), self.level) for row in zip(available, missing, strict=True)
        ]

    def abstains(self, width: float) -> bool:
        """Return whether an interval of this width, or a set of so many classes, is too wide for an answer."""
        return self.abstain is not None and width > self.abstain
