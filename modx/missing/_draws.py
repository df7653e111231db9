"""Shared validation and random draws of the ``drop_*`` functions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_mapping, check_tensor

Rate = float | Tensor | Mapping[str, float | Tensor]
Generators = torch.Generator | Mapping[str, torch.Generator] | None


class Sources(NamedTuple):
    """Where the draws come from: a generator per modality, and one for what modalities share."""

    own: Mapping[str, torch.Generator | None]
    shared: torch.Generator | None


def draw_uniform(caller: str, shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1) where the generator lives, and move the draws to ``device``."""
    check_generator(caller, "generator", generator)
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source, dtype=torch.float32).to(device)


def read_sources(
    generator: Generators, shared: torch.Generator | None, masks: Mapping[str, Tensor], is_shared: bool
) -> Sources:
    """Validate the generators and return each modality's, and the shared one."""
    check_generator("drop", "shared_generator", shared)
    if not isinstance(generator, Mapping):
        check_generator("drop", "generator", generator)
        return Sources(dict.fromkeys(masks, generator), generator if shared is None else shared)
    if not generator.keys() >= masks.keys():
        raise ValueError(
            f"drop expected generator to hold a torch.Generator for each of {tuple(masks)}, the modalities of masks, "
            f"got one for {tuple(generator)}; add the others, or pass one generator for all."
        )
    for name, own in generator.items():
        check_generator("drop", f"generator[{name!r}]", own)
    if is_shared and shared is None:
        raise ValueError(
            "drop expected shared_generator, since the pattern makes a draw that modalities share and generator is one "
            "per modality, got None; pass a torch.Generator."
        )
    return Sources(generator, shared)


def rank_real(mask: Tensor) -> Tensor:
    """Count real elements along each row: the k-th real one, from 0, has rank k."""
    return mask.cumsum(1) - 1


def rate_column(caller: str, name: str, rate: float | Tensor, mask: Tensor) -> Tensor:
    """Validate a rate and return it as a ``(B, 1)`` float64 column on the CPU."""
    rates = per_sample(caller, name, rate, mask)
    valid = (rates >= 0) & (rates <= 1)
    if not valid.all():
        raise ValueError(
            f"{caller} expected {name} in [0, 1], got {rates[~valid].flatten()[0].item():.4g}; pass a "
            "probability, not a percentage."
        )
    return rates.expand(len(mask)).unsqueeze(1)


def read_rates(rate: Rate, masks: Mapping[str, Tensor], across: list[str]) -> dict[str, Tensor]:
    """Validate the rates and return one ``(B,)`` per modality."""
    if not isinstance(rate, Mapping):
        return dict.fromkeys(masks, rate_column("drop", "rate", rate, next(iter(masks.values()))).squeeze(1))
    if across:
        raise ValueError(
            f"drop expected one rate for pattern {across[0]!r}, which drops across modalities, got a rate per "
            f"modality, {dict(rate)}; pass a number, or a tensor of one per sample."
        )
    if rate.keys() != masks.keys():
        raise ValueError(
            f"drop expected rate to hold a rate for each of {tuple(masks)}, the modalities of masks, got one for "
            f"{tuple(rate)}; give these modalities a rate each, and no others."
        )
    return {name: rate_column("drop", f"rate[{name!r}]", rate[name], mask).squeeze(1) for name, mask in masks.items()}


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


def check_generator(caller: str, name: str, generator: object) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"{caller} expected {name} to be a torch.Generator or None, got {generator!r}; pass "
            "torch.Generator().manual_seed(SEED)."
        )


def draw_order(caller: str, masks: Mapping[str, Tensor], order: Sequence[str] | None) -> tuple[str, ...]:
    """Return the order in which one generator serves the modalities: sorted, or the caller's."""
    names = tuple(sorted(masks))
    if order is None:
        return names
    if isinstance(order, str) or not isinstance(order, Sequence) or {*order} != {*names} or len(order) != len(names):
        raise ValueError(
            f"{caller} expected order to be a sequence of all modalities of masks, {names}, each once, got {order!r}; "
            "leave it out to draw in sorted order."
        )
    return tuple(order)
