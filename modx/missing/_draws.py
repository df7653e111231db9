"""Shared validation and random draws of the ``drop_*`` functions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .._checks import check_mapping, check_tensor


def draw_uniform(caller: str, shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1) where the generator lives, and move the draws to ``device``."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"{caller} expected generator to be a torch.Generator or None, got {generator!r}; pass "
            "torch.Generator().manual_seed(SEED)."
        )
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source, dtype=torch.float32).to(device)


def rank_real(mask: Tensor) -> Tensor:
    """Count real elements along each row: the k-th real one, from 0, has rank k."""
    return mask.cumsum(1) - 1


def rate_column(caller: str, rate: float | Tensor, mask: Tensor) -> Tensor:
    """Validate a rate and return it as a ``(B, 1)`` float64 column on the CPU."""
    rates = per_sample(caller, "rate", rate, mask)
    valid = (rates >= 0) & (rates <= 1)
    if not valid.all():
        raise ValueError(
            f"{caller} expected rate in [0, 1], got {rates[~valid].flatten()[0].item():.4g}; pass a "
            "probability, not a percentage."
        )
    return rates.expand(len(mask)).unsqueeze(1)


def per_sample(caller: str, name: str, value: float | Tensor, mask: Tensor) -> Tensor:
    """Return one number for all samples, or one per sample, as float64 ``()`` or ``(B,)`` on the CPU."""
    numbers = not isinstance(value, bool)
    if isinstance(value, Tensor):
        numbers = value.dtype != torch.bool and not value.is_complex()
    try:
        values = torch.as_tensor(value if numbers else None, dtype=torch.float64, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError):
        what, remedy = repr(value), "pass a float"
        if isinstance(value, Tensor):
            what, remedy = str(value.dtype), "cast it to a float dtype"
        raise TypeError(
            f"{caller} expected {name} to be a number or a tensor of numbers, got {what}; {remedy}."
        ) from None
    if values.ndim and values.shape != mask.shape[:1]:
        raise ValueError(
            f"{caller} expected {name} to be a number or a tensor of shape (B,) = ({len(mask)},), got shape "
            f"{tuple(values.shape)}; pass one {name} for all samples or one per sample."
        )
    return values


def check_masks(caller: str, masks: Mapping[str, Tensor]) -> Tensor:
    """Validate the masks of all modalities and return the first."""
    check_mapping(caller, "masks", masks)
    if not masks:
        raise ValueError(f"{caller} expected masks of at least one modality, got none; pass a mask per modality.")
    for name, mask in masks.items():
        check_mask(caller, f"masks[{name!r}]", mask)
    sizes = {name: len(mask) for name, mask in masks.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"{caller} expected masks with one batch size, got {sizes}; give every modality all samples, with "
            "an all-False row where a sample lacks it."
        )
    return next(iter(masks.values()))


def check_mask(caller: str, name: str, mask: Tensor) -> None:
    check_tensor(caller, name, mask)
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise ValueError(
            f"{caller} expected {name} to be bool of shape (B, T), got {mask.dtype} {tuple(mask.shape)}; "
            "compare it, as in ``attention_mask != 0``, and add a batch axis if it lacks one."
        )
