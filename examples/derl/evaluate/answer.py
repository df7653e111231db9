"""Answer: what a model says of one sample."""

import math
from dataclasses import dataclass


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
        interval: ``(low, high)`` around the score, which holds the label with the predictor's confidence level;
            infinite if the validation split was too small to bound it. None for classes, and for a model without a
            calibration.
        classes: the set of classes that holds the true one with the predictor's confidence level, likeliest first.
            None for numbers, and for a model without a calibration.
        abstains: whether the interval is wider, or the set larger, than it may be, so that the score is no answer.
    """

    score: float
    weights: dict[str, float] | None
    name: str | None = None
    sentiment: int | None = None
    probabilities: dict[str, float] | None = None
    interval: tuple[float, float] | None = None
    classes: tuple[str, ...] | None = None
    abstains: bool = False

    @property
    def width(self) -> float | None:
        """Width of the interval, or size of the set of classes; None without a calibration.

        Example:
            >>> Answer(5.0, None, interval=(4.0, 6.0)).width, Answer(0.6, None, classes=("a", "b")).width
            (2.0, 2)
        """
        if self.classes is not None:
            return len(self.classes)
        return None if self.interval is None else self.interval[1] - self.interval[0]

    @property
    def scale(self) -> float:
        """Size of a difference in score that matters: the interval's width, or a hundredth of a score without one.

        Example:
            >>> Answer(5.0, None, interval=(4.0, 6.0)).scale, Answer(5.0, None).scale
            (2.0, 0.05)
        """
        low, high = self.interval or (-math.inf, math.inf)
        return high - low if math.isfinite(low) else abs(self.score) / 100
