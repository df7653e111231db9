"""What a split lacks: NaN stands for a value that was not observed, a frame of NaN for a frame that was not."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

PARTLY_MISSING = ("impute", "mask")


class Missing(NamedTuple):
    """What a modality of a split lacks.

    Attributes:
        samples: samples without the modality.
        frames: frames that were not observed, in the other samples.
        values: values that were not observed, in frames that were.
        partly: frames with such values.
        of_samples, of_frames: all samples, and all frames of the samples that have the modality.
    """

    samples: int = 0
    frames: int = 0
    values: int = 0
    partly: int = 0
    of_samples: int = 0
    of_frames: int = 0

    def __add__(self, other: "Missing") -> "Missing":  # type: ignore[override]
        return Missing(*map(sum, zip(self, other, strict=True)))

    def is_all(self, partly_missing: str = "impute") -> bool:
        """Return whether nothing of the modality was observed; see :func:`observed` for the argument.

        Example:
            >>> Missing(samples=2, frames=3, partly=1, of_samples=5, of_frames=4).is_all()
            False
            >>> Missing(samples=2, frames=3, partly=1, of_samples=5, of_frames=4).is_all("mask")
            True
        """
        if not self.of_frames:
            return 0 < self.of_samples == self.samples
        return self.frames + (self.partly if partly_missing == "mask" else 0) == self.of_frames


def observed(frames: Tensor, partly_missing: str = "impute") -> Tensor:
    """Return which frames count as observed: ``(L, D)`` -> bool ``(L,)``.

    Args:
        frames: features, NaN where a value was not observed.
        partly_missing: "impute" counts a frame of which some values were observed; "mask" does not.

    Example:
        >>> import torch
        >>> nan = torch.nan
        >>> frames = torch.tensor([[1.0, 2.0], [nan, 2.0], [nan, nan]])
        >>> observed(frames), observed(frames, "mask")
        (tensor([ True,  True, False]), tensor([ True, False, False]))
    """
    there = ~frames.isnan()
    return there.any(-1) if partly_missing == "impute" else there.all(-1)


def is_blank(cell: Any) -> bool:
    """Return whether a cell, or a transcript, holds nothing.

    That is None, NaN (pandas' empty cell), or a text of spaces and characters that are never shown.

    Example:
        >>> [is_blank(cell) for cell in (None, float("nan"), "", " \\u200b", "?", 0.0)]
        [True, True, True, True, False, False]
    """
    if isinstance(cell, str):
        return not any(character.isprintable() and not character.isspace() for character in cell)
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def count_frames(frames: Tensor) -> Missing:
    """Count what one sample's frames ``(L, D)`` lack.

    Example:
        >>> import torch
        >>> count_frames(torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]]))
        Missing(samples=0, frames=1, values=1, partly=1, of_samples=1, of_frames=2)
        >>> count_frames(torch.ones(0, 2))
        Missing(samples=1, frames=0, values=0, partly=0, of_samples=1, of_frames=0)
    """
    unobserved = frames.isnan().sum(-1)
    whole = unobserved == frames.shape[-1]
    if whole.all():
        return Missing(samples=1, of_samples=1)
    partly = (unobserved > 0) & ~whole
    return Missing(
        frames=int(whole.sum()),
        values=int(unobserved[partly].sum()),
        partly=int(partly.sum()),
        of_samples=1,
        of_frames=len(frames),
    )


def count_text(text: Sequence[str | None]) -> Missing:
    """Count absent transcripts."""
    return Missing(samples=sum(map(is_blank, text)), of_samples=len(text))


def describe_missing(splits: Mapping[str, Any], partly_missing: str = "impute") -> list[str]:
    """Report what is absent, one line per split and modality that lacks something; empty if nothing does."""
    return [
        f"{name}: {line}"
        for name, split in splits.items()
        for modality, missing in split.missing().items()
        if (line := describe(modality, missing, partly_missing))
    ]


def describe(modality: str, missing: Missing, partly_missing: str = "impute") -> str:
    """Say what a modality lacks; empty if nothing.

    Example:
        >>> describe("audio", Missing(3, 20, 7, 5, 10, 400))
        'audio is absent in 3 of 10 samples; in the others, 20 of 400 frames are absent, 7 values in 5 frames are \
missing (imputed by the training mean)'
    """
    parts = []
    if missing.samples:
        parts.append(f"{modality} is absent in {missing.samples} of {missing.of_samples} samples")
    within = [f"{missing.frames} of {missing.of_frames} frames are absent"] if missing.frames else []
    if missing.values:
        treated = "imputed by the training mean" if partly_missing == "impute" else "these frames count as absent"
        within.append(f"{missing.values} values in {missing.partly} frames are missing ({treated})")
    if within:
        where = "in the others, " if parts else f"of {modality}, "
        parts.append(where + ", ".join(within))
    return "; ".join(parts)
