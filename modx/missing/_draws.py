"""Shared checks and random draws of the ``drop_*`` functions."""

from collections.abc import Collection, Mapping, Sequence
from types import NoneType
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check, check_shapes, check_type, message

Rate = float | Tensor | Mapping[str, float | Tensor]
Generators = torch.Generator | Mapping[str, torch.Generator] | None
GENERATOR = torch.Generator, NoneType


class Sources(NamedTuple):
    """Generators: one per modality, and one for the draws that modalities share."""

    own: Mapping[str, torch.Generator | None]
    shared: torch.Generator | None


def draw_uniform(caller: str, shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw from [0, 1) on the generator's device and move the draws to ``device``."""
    check_type(caller, *GENERATOR, generator=generator)
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source, dtype=torch.float32).to(device)


def read_sources(
    generator: Generators, shared: torch.Generator | None, masks: Mapping[str, Tensor], is_shared: bool
) -> Sources:
    """Return each modality's generator and the shared one."""
    several = generator if isinstance(generator, Mapping) else {}
    each: dict[str, object] = {f"generator[{name!r}]": own for name, own in several.items()}
    each |= {} if isinstance(generator, Mapping) else {"generator": generator}
    check_type("drop", *GENERATOR, shared_generator=shared, **each)
    if not isinstance(generator, Mapping):
        return Sources(dict.fromkeys(masks, generator), generator if shared is None else shared)
    named = generator.keys() >= masks.keys()
    check(named, "drop", f"a generator for each of {tuple(masks)}", tuple(generator), "add the others")
    chosen = shared is not None or not is_shared
    check(chosen, "drop", "shared_generator for draws across modalities", shared, "pass a torch.Generator")
    return Sources(generator, shared)


def rank_real(mask: Tensor) -> Tensor:
    """Rank the real elements of each row: 0 for the first, 1 for the second, and so on."""
    return mask.cumsum(1) - 1


def rate_column(caller: str, rate: float | Tensor, mask: Tensor, name: str = "rate") -> Tensor:
    """Check a rate and its mask, and return the rate as a ``(B, 1)`` float64 column on the CPU."""
    check_shapes(caller, mask=(mask, "bool B T"))
    rates = number_column(caller, rate, mask, name)
    inside = (rates >= 0) & (rates <= 1)
    if not inside.all():
        worst = rates[~inside].tolist()[0]
        raise ValueError(message(caller, f"{name} in [0, 1]", worst, "pass a probability, not a percentage"))
    return rates


def read_rates(rate: Rate, masks: Mapping[str, Tensor], names: Collection[str], across: list[str]) -> dict[str, Tensor]:
    """Return one rate ``(B,)`` per mask. A mapping has one for each of ``names``, with or without a mask."""
    if not isinstance(rate, Mapping):
        return dict.fromkeys(masks, rate_column("drop", rate, next(iter(masks.values()))).squeeze(1))
    expected = f"one rate for pattern {'+'.join(across)!r}, which drops across modalities"
    check(not across, "drop", expected, rate, "pass a number or a tensor with one rate per sample")
    every = tuple(sorted(names))
    check(rate.keys() == {*every}, "drop", f"a rate for each of {every}", tuple(rate), "pass one rate each")
    return {name: rate_column("drop", rate[name], mask, f"rate[{name!r}]").squeeze(1) for name, mask in masks.items()}


def number_column(caller: str, value: float | Tensor, mask: Tensor, name: str) -> Tensor:
    """Check one number, or one per sample, and return it as a ``(B, 1)`` float64 column on the CPU."""
    dtype = None if isinstance(value, Tensor) else torch.float64
    try:
        values = torch.as_tensor(None if isinstance(value, bool) else value, dtype=dtype)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(message(caller, f"{name} of type float or Tensor", value)) from None
    check_shapes(caller, {"B": len(mask)}, **{name: (values, "number B" if values.ndim else "number")})
    values = values.detach().to("cpu", torch.float64)
    return values.expand(len(mask)).unsqueeze(1)


def read_masks(caller: str, masks: Mapping[str, Tensor | None]) -> tuple[dict[str, Tensor], Tensor]:
    """Check the masks, and return those that are not None and the first of them."""
    check_type(caller, Mapping, masks=masks)
    given = {name: mask for name, mask in masks.items() if mask is not None}
    check(given, caller, "masks of at least one modality", masks, "pass one mask per modality")
    known: dict[str, int] = {}
    for name, mask in given.items():
        known = {"B": check_shapes(caller, known, **{f"masks[{name!r}]": (mask, "bool B T")})["B"]}
    return given, next(iter(given.values()))


def draw_order(caller: str, masks: Mapping[str, Tensor | None], order: Sequence[str] | None) -> tuple[str, ...]:
    """Return the order in which modalities with a mask are drawn from one generator: sorted, or the caller's."""
    names = tuple(sorted(masks))
    listed = names if order is None else order
    fits = isinstance(listed, Sequence) and not isinstance(listed, str) and sorted(listed) == list(names)
    check(fits, caller, f"order to contain each of the modalities {names} once", order)
    return tuple(name for name in listed if masks[name] is not None)
