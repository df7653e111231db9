"""What a mask leaves out is zeros, and counts in no mean."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """Put zeros where the mask ``(B, T)`` is False."""
    return x if mask is None else torch.where(mask[..., None], x, 0)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; 0 if there are none."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)


def mean_frames(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the unmasked rows of ``(B, T, D)``, and zeros if there are none."""
    return hide(x, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def first(x: Tensor, mask: Tensor) -> Tensor:
    """Return the first unmasked row of ``(B, T, D)``, and zeros if there is none."""
    return _row(x, mask, mask.long().argmax(1))


def last(x: Tensor, mask: Tensor) -> Tensor:
    """Return the last unmasked row of ``(B, T, D)``, and zeros if there is none."""
    return _row(x, mask, torch.where(mask, torch.arange(x.shape[1], device=x.device), 0).amax(1))


def _row(x: Tensor, mask: Tensor, place: Tensor) -> Tensor:
    row = x.gather(1, place[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
    return torch.where(mask.any(1)[:, None], row, 0)


def first_at_least(mask: Tensor) -> Tensor:
    """Unmask the first frame of samples that have none, for layers that must read something; it is zeros if hidden."""
    return mask | (~mask.any(1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0))


def pad_frames(x: Tensor, mask: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Return ``(B, length, D)`` with zeros for masked and for added frames, and its mask. Default: all are real."""
    mask = x.new_ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    spare = length - x.shape[1]
    return F.pad(hide(x, mask), (0, 0, 0, spare)), F.pad(mask, (0, spare))


def masked_frames(
    features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None, name: str, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return a modality's frames and its mask, as :func:`pad_frames` does. Default: as many as there are."""
    x = features[name]
    return pad_frames(x, None if masks is None else masks[name], x.shape[1] if length is None else length)


class Windows(nn.Conv1d):
    """Convolve frames; a window is masked if all of its frames are."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return ``(B, T - K + 1, D)`` and its mask, for frames ``(B, T, C)`` that are zeros where masked."""
        return super().forward(x.mT).mT, F.max_pool1d(mask.float(), self.kernel_size[0], 1) > 0


def check_lengths(owner: str, features: Mapping[str, Tensor], max_lengths: Mapping[str, int]) -> None:
    """Refuse sequences that are longer than the core was built for.

    Raises:
        ValueError: The message names the modality.
    """
    for name, limit in max_lengths.items():
        length = features[name].shape[1]
        if length > limit:
            raise ValueError(
                f"{owner} expected at most {limit} frames of {name!r}, got {length}; truncate it, or raise max_lengths."
            )
