"""Missing patterns by name: the registry, mixtures, and ``drop``, which applies any of them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._checks import check, check_shapes, check_type
from ._draws import Generators, Rate, Sources, check_masks, draw_order, draw_uniform, read_rates, read_sources
from .across import drop_modalities, drop_together, unequal_rates
from .within import drop_block, drop_bursts, drop_frames

BURST_LENGTH = 5.0
"""Mean length of the pattern ``bursts``, in elements, at every rate that allows it."""


class Pattern(NamedTuple):
    """A registered pattern.

    Attributes:
        drop: From masks, a rate ``(B,)`` per modality, and sources to keep masks.
        across: Whether it drops across modalities, and so takes one rate for all of them.
    """

    drop: Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Sources], Mapping[str, Tensor]]
    across: bool


def drop(
    masks: Mapping[str, Tensor],
    rate: Rate,
    pattern: str | Callable[..., Tensor] = "frames",
    *,
    generator: Generators = None,
    shared_generator: torch.Generator | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Drop elements of every modality by a pattern's name, by a mixture of several, or by a function of your own.

    Within each modality by itself:

    - ``frames``: elements one by one, ``drop_frames``
    - ``bursts``: bursts of ``BURST_LENGTH`` elements on average, or of rate / (1 - rate) where that is more,
      ``drop_bursts``
    - ``block``: one block per modality, ``drop_block``

    Across modalities:

    - ``modalities``: whole modalities, but never the last one of a sample, ``drop_modalities``
    - ``together``: the same stretch of time in all modalities, ``drop_together``
    - ``unequal``: elements one by one, at rates as unequal between modalities as possible, ``unequal_rates``

    ``register_pattern`` adds others. Plus signs make a mixture: under ``"frames+modalities"`` each sample draws one of
    the two, with equal probability.

    With a generator per modality, what a pattern within a modality drops does not depend on which other modalities
    there are. From the same generator state, what is dropped at a lower rate is dropped at a higher one as well, for
    every pattern above but ``bursts``.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real.
        rate: Rate in [0, 1]: a number, or ``(B,)`` with one per sample. A pattern within a modality also takes a
            mapping with such a rate per modality.
        pattern: A name of ``PATTERNS``, several joined by plus signs, or a function that drops within a modality as
            ``drop_frames`` does: ``function(mask, rate, generator=generator)`` with ``rate`` ``(B,)``.
        generator: Source of the draws, or a mapping with one per modality. Default: PyTorch's global one.
        shared_generator: Source of what modalities share: the choice of a mixture, the draws of ``modalities`` and
            ``together``, and the order of ``unequal``. Required for these with a generator per modality. Default:
            ``generator``.
        order: All modalities, in the order in which one generator, or the shared one, draws them. Default: sorted.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError: As for ``drop_modalities``, or ``pattern`` is neither a string nor a function.
        ValueError: As for ``drop_modalities`` and ``parse_pattern``; a mapping lacks a modality; a pattern across
            modalities comes with a rate per modality, or a shared draw without ``shared_generator``; or a function of
            your own returns something other than a keep mask.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop(masks, 1.0, "frames+modalities")  # drops everything, or everything but one modality
        >>> (keep["text"].any(1) & keep["audio"].any(1)).any()
        tensor(False)
        >>> {name: int(mask.sum()) for name, mask in drop(masks, {"text": 0, "audio": 1}).items()}
        {'text': 12, 'audio': 0}
    """
    first = check_masks("drop", masks)
    parts = _find(pattern)
    ordered = {name: masks[name] for name in draw_order("drop", masks, order)}
    rates = read_rates(rate, ordered, [name for name, part in parts.items() if part.across])
    is_shared = len(parts) > 1 or any(part.across for part in parts.values())
    sources = read_sources(generator, shared_generator, ordered, is_shared)
    if len(parts) == 1:
        (only,) = parts.values()
        keep = only.drop(ordered, rates, sources)
        return {name: keep[name] for name in masks}
    uniform = draw_uniform("drop", torch.Size((len(first), 1)), first.device, sources.shared)
    choice = (uniform * len(parts)).long().clamp(max=len(parts) - 1)  # a product can round up to len(parts)
    mixed = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for number, part in enumerate(parts.values()):
        keep = part.drop(ordered, rates, sources)
        mixed = {name: torch.where(choice == number, keep[name], mixed[name]) for name in masks}
    return mixed


def register_pattern(name: str, function: Callable[..., Any], *, across: bool = False) -> None:
    """Make a function available under a name: to ``drop``, to mixtures, and to what takes the name of a pattern.

    Registered once per process, before the name is used: a script that starts worker processes registers at its top
    level. ``drop`` checks what the function returns, and hands it copies, which it may change.

    Args:
        name: A word without spaces or plus signs that is not yet in ``PATTERNS``.
        function: Within a modality, as ``drop_frames``: ``function(mask, rate, generator=generator)`` -> keep mask,
            called per modality with its own generator. Across modalities, as ``drop_together``:
            ``function(masks, rate, generator=generator)`` -> a keep mask per modality, called once, with the shared
            generator and the masks in the order in which they are drawn. ``rate`` is floating-point ``(B,)``, on the
            device of the masks.
        across: Whether ``function`` drops across modalities.

    Raises:
        TypeError: ``name`` is not a string, ``function`` cannot be called, or ``across`` is not a bool.
        ValueError: ``name`` is taken, empty, or holds a space or a plus sign.
    """
    check_type("register_pattern", str, name=name)
    check_type("register_pattern", Callable, function=function)
    check_type("register_pattern", bool, across=across)
    is_new = name.split() == [name] and "+" not in name and name not in _PATTERNS
    expected = f"name to be a word without spaces or plus signs, and not among {tuple(_PATTERNS)}"
    check(is_new, "register_pattern", expected, name, "choose another")
    _PATTERNS[name] = _guard(name, _across(function) if across else _within(function))


def parse_pattern(pattern: str) -> tuple[str, ...]:
    """Split a mixture at its plus signs into names of ``PATTERNS``.

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
    expected = f"pattern to be different names out of {tuple(PATTERNS)}, joined by plus signs"
    check(known, "parse_pattern", expected, pattern, "add one of your own with register_pattern")
    return parts


def _find(pattern: str | Callable[..., Tensor]) -> dict[str, Pattern]:
    """Return the patterns that a mixture draws from, by name; one for a single name or a function."""
    check_type("drop", str, Callable, pattern=pattern)
    if isinstance(pattern, str):
        return {name: PATTERNS[name] for name in parse_pattern(pattern)}
    name = getattr(pattern, "__name__", type(pattern).__name__)
    return {name: _guard(name, _within(pattern))}


def _within(function: Callable[..., Tensor]) -> Pattern:
    """Make a pattern of a function that drops within a modality."""

    def apply(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> dict[str, Tensor]:
        return {name: function(mask, rates[name], generator=sources.own[name]) for name, mask in masks.items()}

    return Pattern(apply, across=False)


def _across(function: Callable[..., Mapping[str, Tensor]]) -> Pattern:
    """Make a pattern of a function that drops across modalities."""

    def apply(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> Mapping[str, Tensor]:
        return function(masks, next(iter(rates.values())), generator=sources.shared)

    return Pattern(apply, across=True)


def _drop_bursts(mask: Tensor, rate: Tensor, *, generator: torch.Generator | None) -> Tensor:
    """Drop bursts of ``BURST_LENGTH`` elements on average, or of the least length that the rate allows."""
    least = torch.where(rate < 1, rate / (1 - rate), 0.0)  # where everything is dropped, any length will do
    return drop_bursts(mask, rate, mean_length=least.clamp(min=BURST_LENGTH), generator=generator)


def _drop_modalities(
    masks: Mapping[str, Tensor], rate: Tensor, *, generator: torch.Generator | None
) -> dict[str, Tensor]:
    """Drop whole modalities, drawn in the order of ``masks``."""
    return drop_modalities(masks, rate, generator=generator, order=tuple(masks))


def _drop_unequal(masks: Mapping[str, Tensor], rates: Mapping[str, Tensor], sources: Sources) -> Mapping[str, Tensor]:
    """Drop frames from each modality's own source, at rates from the shared one."""
    shares = unequal_rates(masks, next(iter(rates.values())), generator=sources.shared, order=tuple(masks))
    return {name: drop_frames(mask, shares[name], generator=sources.own[name]) for name, mask in masks.items()}


def _guard(name: str, pattern: Pattern) -> Pattern:
    """Hand copies to a user's pattern, and check the keep masks that it returns."""

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
            expected = f"pattern {name!r} to keep only what the mask of {modality!r} shows"
            check(not (keep[modality] & ~mask).any(), "drop", expected, True, "return its result & mask")
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
"""Every registered pattern by its name; ``PATTERNS[name].across`` says whether it drops across modalities."""
