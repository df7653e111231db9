"""hide and mean_over: what a mask leaves out is zeros, and counts in no mean."""

import torch
from torch import Tensor


def hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """Put zeros where the mask ``(B, T)`` is False."""
    return x if mask is None else torch.where(mask[..., None], x, 0)


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; 0 if there are none."""
    return torch.where(chosen, values, 0).sum() / chosen.sum().clamp(min=1)
