"""What a mask leaves out is zeros, and counts in no mean."""

from collections.abc import Mapping

import torch
from torch import Tensor


def hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """Put zeros where the mask ``(B, T)`` is False."""
    return x if mask is None else torch.where(mask[..., None], x, 0)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; 0 if there are none."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)


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
