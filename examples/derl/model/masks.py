"""Which elements of a batch are real, kept or left, and its rows; no parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor

Features = dict[str, Tensor]


def all_real(inputs: Mapping[str, Tensor]) -> Features:
    """Return masks of inputs ``(B, L, ...)`` without padding, bool ``(B, L)``."""
    return {name: torch.ones(part.shape[:2], dtype=torch.bool, device=part.device) for name, part in inputs.items()}


def any_present(masks: Mapping[str, Tensor]) -> Tensor:
    """Return which samples have an element of any modality, bool ``(B,)``."""
    return torch.stack([mask.any(1) for mask in masks.values()]).any(0)


def nothing_left(masks: Mapping[str, Tensor], keep: Mapping[str, Tensor] | None) -> Tensor:
    """Return which samples have nothing left, bool ``(B,)``."""
    return ~any_present(masks if keep is None else {name: mask & keep[name] for name, mask in masks.items()})


def dropped_rows(masks: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> Tensor:
    """Return the indices of the rows with dropped elements."""
    return torch.stack([(masks[name] & ~keep[name]).any(1) for name in masks]).any(0).nonzero().squeeze(1)


def append_rows(parts: Mapping[str, Tensor], others: Mapping[str, Tensor], rows: Tensor) -> Features:
    """Append ``rows`` of ``others`` to each part."""
    return {name: torch.cat([part, others[name][rows]]) for name, part in parts.items()}
