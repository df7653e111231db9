"""Missing patterns by name: a registry, mixtures, and ``drop``, which applies them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._checks import check, check_shapes, check_type
from ._draws import Generators, Rate, Sources, draw_order, draw_uniform, read_masks, read_rates, read_sources
from .across import drop_modalities, drop_together, unequal_rates
from .within import drop_block, drop_bursts, drop_frames

BURST_LENGTH = 5.0
"""Mean burst length of the pattern ``bursts``, in elements; longer at rates that do not allow it."""


class Pattern(NamedTuple):
    """A registered pattern.

    Attributes:
        drop: Function of masks, a rate ``(B,)`` per modality and generators, which returns keep masks.
        across: Whether the pattern drops across modalities. If so, it takes one rate for all of them.
    """

    drop: Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Sources], Mapping[str, Tensor]]
    across: bool


def drop(
    masks: Mapping[str, Tensor | None],
    rate: Rate,
    pattern: str | Callable[..., Tensor] = "frames",
    *,
    generator: Generators = None,
    shared_generator: torch.Generator | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Drop elements of every modality by a named pattern, a mixture of patterns or your own function.

    Patterns within a modality:

    - ``frames``: Independent elements; see ``drop_frames``.
    - ``bursts``: Bursts with a mean length of ``BURST_LENGTH`` elements, or rate / (1 - rate) if that is more; see
      ``drop_bursts``.
    - ``block``: One block per modality; see ``drop_block``.

    Patterns across modalities:

    - ``modalities``: Whole modalities, but never all of a sample; see ``drop_modalities``.
    - ``together``: The same time span in all modalities; see ``drop_together``.
    - ``unequal``: Independent elements, at rates that differ between modalities as much as possible; see
      ``unequal_rates``.

    ``register_pattern`` adds more. A plus sign makes a mixture: with ``"frames+modalities"``, each sample draws one of
    the two patterns with equal probability.

    With one generator per modality, a pattern within a modality drops the same elements whichever other modalities
    there are. From the same generator state, everything dropped at a lower rate is also dropped at a higher rate, for
    every pattern above except ``bursts``.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real; None counts as left out.
        rate: Rate in [0, 1]: a number, or ``(B,)`` with one per sample. Patterns within a modality also take a mapping
            with one such rate per modality.
        pattern: A name in ``PATTERNS``, several names joined by plus signs, or a function that drops within a modality,
            like ``drop_frames``: ``function(mask, rate, generator=generator)``, where ``rate`` is ``(B,)``.
        generator: Source of the draws, or a mapping with one per modality. Default: PyTorch's global one.
        shared_generator: Source of the draws that modalities share: the choice in a mixture, the draws of
            ``modalities`` and ``together``, and the order of ``unequal``. Required for these if ``generator`` is a
            mapping. Default: ``generator``.
        order: All modalities, in the order in which they are drawn. Default: sorted.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError: As for ``drop_modalities``, or ``pattern`` is neither a string nor a function.
        ValueError: As for ``drop_modalities`` and ``parse_pattern``, or a mapping lacks a modality, a pattern across
            modalities gets one rate per modality, ``shared_generator`` is required but missing, or your own function
            does not return a keep mask.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop(masks, 1.0, "frames+modalities")  # drops everything, or everything but one modality
        >>> (keep["text"].any(1) & keep["audio"].any(1)).any()
        tensor(False)
        >>> {name: int(mask.sum()) for name, mask in drop(masks, {"text": 0, "audio": 1}).items()}
        {'text': 12, 'audio': 0}
    """
    given, first = read_masks("drop", masks)
    parts = _find(pattern)
    ordered = {name: given[name] for name in draw_order("drop", masks, order)}
    rates = read_rates(rate, ordered, masks, [name for name, part in parts.items() if part.across])
    is_shared = len(parts) > 1 or any(part.across for part in parts.values())
    sources = read_sources(generator, shared_generator, ordered, is_shared)
    if len(parts) == 1:
        (only,) = parts.values()
        keep = only.drop(ordered, rates, sources)
        return {name: keep[name] for name in given}
    uniform = draw_uniform("drop", torch.Size((len(first), 1)), first.device, sources.shared)
    choice = (uniform * len(parts)).long().clamp(max=len(parts) - 1)  # the product can round up to len(parts)
    mixed = {name: torch.zeros_like(mask) for name, mask in given.items()}
    for number, part in enumerate(parts.values()):
        keep = part.drop(ordered, rates, sources)
        mixed = {name: torch.where(choice == number, keep[name], mixed[name]) for name in given}
    return mixed


def register_pattern(name: str, function: Callable[..., Any], *, across: bool = False) -> None:
    """Register a pattern under a name, for ``drop``, mixtures and every option that takes the name of a pattern.

    Register it once per process, before the name is used. A script that starts worker processes must do so at its top
    level. The function gets copies, which it may change, and ``drop`` checks its result.

    Args:
        name: A new name without spaces or plus signs.
        function: A function that returns a keep mask. Within a modality, like ``drop_frames``, it is called as
            ``function(mask, rate, generator=generator)`` for each modality, with the generator of the modality. Across
            modalities, like ``drop_together``, it is called once as ``function(masks, rate, generator=generator)``,
            with the shared generator and with the masks in the order in which they are drawn, and returns one keep mask
            per modality. ``rate`` is floating-point ``(B,)``, on the device of the masks.
        across: Whether ``function`` drops across modalities.

    Raises:
        TypeError: ``name`` is not a string, ``function`` is not callable, or ``across`` is not a bool.
        ValueError: ``name`` is taken, empty, or contains a space or a plus sign.
    """
    check_type("register_pattern", str, name=name)
    check_type("register_pattern", Callable, function=function)
    check_type("register_pattern", bool, across=across)
    is_new = name.split() == [name] and "+" not in name and name not in _PATTERNS
    expected = f"name to be a new name without spaces or plus signs, not one of {tuple(_PATTERNS)}"
    check(is_new, "register_pattern", expected, name)
    _PATTERNS[name] = _guard(name, _across(function) if across else _within(function))


def parse_pattern(pattern: str) -> tuple[str, ...]:
    """Split a mixture at its plus signs into names in ``PATTERNS``.

    Args:
        pattern: One name, or several joined by plus signs.

    Returns:
        The names, in the order given.

    Raises:
        TypeError: ``pattern`` is not a string.
        ValueError: A name is unknown, empty or repeated.

    Example:
        >>> parse_pattern("frames+modalities")
        ('frames', 'modalities')
    """
    check_type("parse_pattern", str, pattern=pattern)
    parts = tuple(pattern.split("+"))
    known = {*parts} <= PATTERNS.keys() and len({*parts}) == len(parts)
    expected = f"pattern to be distinct names from {tuple(PATTERNS)}, joined by plus signs"
    check(known, "parse_pattern", expected, pattern, "add your own with register_pattern")
    return parts


def _find(pattern: str | Callable[..., Tensor]) -> dict[str, Pattern]:
    """Return the patterns of a mixture by name; a single name or a function gives one."""
    check_type("drop", str, Callable, pattern=pattern)
    if isinstance(pattern, str):
        return {name: PATTERNS[name] for name in parse_pattern(pattern)}
    name = getattr(pattern, "__name__", type(pattern).__name__)
    return {name: _guard(name, _within(pattern))}


def _within(function: Callable[..., Tensor]) -> Pattern:
    """Make a pattern from a function that drops within a modality."""

    def apply(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> dict[str, Tensor]:
        return {name: function(mask, rates[name], generator=sources.own[name]) for name, mask in masks.items()}

    return Pattern(apply, across=False)


def _across(function: Callable[..., Mapping[str, Tensor]]) -> Pattern:
    """Make a pattern from a function that drops across modalities."""

    def apply(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> Mapping[str, Tensor]:
        return function(masks, next(iter(rates.values())), generator=sources.shared)

    return Pattern(apply, across=True)


def _drop_bursts(mask: Tensor, rate: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Drop bursts with a mean length of ``BURST_LENGTH`` elements, or the shortest that the rate allows."""
    least = torch.where(rate < 1, rate / (1 - rate), 0.0)  # at rate 1 any length will do
    return drop_bursts(mask, rate, mean_length=least.clamp(min=BURST_LENGTH), generator=generator)


def _drop_modalities(
    masks: Mapping[str, Tensor], rate: Tensor, *, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Drop whole modalities, drawn in the order of ``masks``."""
    return drop_modalities(masks, rate, generator=generator, order=tuple(masks))


def _drop_unequal(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> Mapping[str, Tensor]:
    """Drop frames with each modality's own generator, at rates drawn from the shared one."""
    shares = unequal_rates(masks, next(iter(rates.values())), generator=sources.shared, order=tuple(masks))
    return {name: drop_frames(mask, shares[name], generator=sources.own[name]) for name, mask in masks.items()}


def _guard(name: str, pattern: Pattern) -> Pattern:
    """Pass copies to a user's pattern, and check the keep masks that it returns."""

    def apply(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> Mapping[str, Tensor]:
        copies = {modality: mask.clone() for modality, mask in masks.items()}
        keep = pattern.drop(
            copies, {modality: _beside(masks[modality], rates[modality]) for modality in masks}, sources
        )
        named = isinstance(keep, Mapping) and keep.keys() == masks.keys()
        check(named, "drop", f"pattern {name!r} to return a keep mask for each of {tuple(masks)}", keep)
        for modality, mask in masks.items():
            known = dict(zip("BT", mask.shape, strict=True))
            returned = f"the mask of pattern {name!r} for {modality!r}"
            check_shapes("drop", known, **{returned: (keep[modality], "bool B T")})
            outside = int((keep[modality] & ~mask).sum())
            expected = f"pattern {name!r} to keep no element outside the mask of {modality!r}"
            check(not outside, "drop", expected, outside, "return keep & mask")
        return keep

    return Pattern(apply, pattern.across)


def _beside(mask: Tensor, rate: Tensor) -> Tensor:
    """Copy a rate to the device of a mask."""
    return rate.to(mask.device, torch.float32 if mask.device.type == "mps" else torch.float64, copy=True)


_PATTERNS = {
    "frames": _within(drop_frames),
    "bursts": _within(_drop_bursts),
    "block": _within(drop_block),
    "modalities": _across(_drop_modalities),
    "together": _across(drop_together),
    "unequal": Pattern(_drop_unequal, across=True),
}
PATTERNS: Mapping[str, Pattern] = MappingProxyType(_PATTERNS)
"""All registered patterns by name. ``PATTERNS[name].across`` says whether a pattern drops across modalities."""
