"""The ways in which input goes missing, by name."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ._draws import check_masks, draw_uniform, rate_column
from .across import drop_modalities, drop_together, unequal_rates
from .within import drop_block, drop_bursts, drop_frames

Generators = torch.Generator | Mapping[str, torch.Generator] | None

INDEPENDENT_PATTERNS = ("frames", "bursts", "block")
PATTERNS = (*INDEPENDENT_PATTERNS, "modalities", "together", "unequal")
BURST_LENGTH = 5.0


def drop(
    masks: Mapping[str, Tensor], rate: float | Tensor, pattern: str = "frames", *, generator: Generators = None
) -> dict[str, Tensor]:
    """Lose elements of every modality by a named pattern, or by one that each sample draws from several.

    - ``frames``: elements one by one, ``drop_frames`` in each modality
    - ``bursts``: bursts of 5 elements on average, or of rate / (1 - rate) where that is more, ``drop_bursts``
    - ``block``: one block of each modality, ``drop_block``
    - ``modalities``: whole modalities, all but one at most, ``drop_modalities``
    - ``together``: the same stretch of time in all modalities, ``drop_together``
    - ``unequal``: elements one by one, at rates that differ between modalities as far as can be, ``unequal_rates``

    The first three, ``INDEPENDENT_PATTERNS``, treat modalities apart. Plus signs make a mixture: under
    ``"frames+modalities"`` every sample loses by one of the two, each equally likely.

    With a generator for each modality, what a modality loses to ``frames``, ``bursts`` or ``block`` does not depend on
    which others there are, and ``frames`` loses what ``drop_frames`` does with that generator. From the same generator
    state, what is lost at a lower rate is lost at a higher one as well, unless it is lost in ``bursts``.

    Args:
        masks: modality name -> ``(B, T_m)`` bool, True where an element is real.
        rate: rate in [0, 1], one for all samples or ``(B,)``.
        pattern: a name of ``PATTERNS``, or several joined by plus signs.
        generator: source of the draws; None uses PyTorch's default one. Or modality name -> its own source, with one
            under ``""`` for what modalities have in common: the choice of a mixture, the draws of ``modalities`` and
            ``together``, and the order of ``unequal``.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and survived.

    Raises:
        ValueError: as for ``drop_modalities`` and ``parse_pattern``, or if ``generator`` lacks a source that the
            pattern draws from.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop(masks, 1.0, "frames+modalities")  # all is lost, or all but one modality
        >>> (keep["text"].any(1) & keep["audio"].any(1)).any()
        tensor(False)
    """
    first = check_masks("drop", masks)
    rates = rate_column("drop", rate, first).squeeze(1)
    parts, names = parse_pattern(pattern), tuple(masks)
    masks = {name: masks[name] for name in sorted(names)}
    if len(parts) == 1:
        keep = _lose(parts[0], masks, rates, generator)
        return {name: keep[name] for name in names}
    uniform = draw_uniform("drop", torch.Size((len(first), 1)), first.device, _source(generator, ""))
    choice = (uniform * len(parts)).long().clamp(max=len(parts) - 1)  # a product can round up to len(parts)
    keep = {name: torch.zeros_like(mask) for name, mask in masks.items()}
    for number, part in enumerate(parts):
        kept = _lose(part, masks, rates, generator)
        keep = {name: torch.where(choice == number, kept[name], keep[name]) for name in masks}
    return {name: keep[name] for name in names}


def parse_pattern(pattern: str) -> tuple[str, ...]:
    """Split a pattern at its plus signs into the names of ``PATTERNS`` that it mixes.

    Args:
        pattern: one name, or several joined by plus signs.

    Returns:
        The names, in the order given.

    Raises:
        ValueError: if a name is unknown, empty or repeated.

    Example:
        >>> parse_pattern("frames+modalities")
        ('frames', 'modalities')
    """
    if not isinstance(pattern, str):
        raise TypeError(
            f"parse_pattern expected pattern to be a string, got {pattern!r}; join several names of {PATTERNS} by plus "
            "signs."
        )
    parts = tuple(pattern.split("+"))
    for number, part in enumerate(parts):
        if not part:
            raise ValueError(
                f"parse_pattern expected pattern with a name on each side of every plus sign, got {pattern!r}; name "
                f"one or more of {PATTERNS}."
            )
        if part not in PATTERNS:
            raise ValueError(
                f"parse_pattern expected names out of {PATTERNS}, got {part!r} in pattern {pattern!r}; check the "
                "spelling, and join several by plus signs without spaces."
            )
        if part in parts[:number]:
            raise ValueError(
                f"parse_pattern expected every name once, got {part!r} again in pattern {pattern!r}; leave the second "
                "out: the names of a mixture are equally likely."
            )
    return parts


def _lose(pattern: str, masks: Mapping[str, Tensor], rates: Tensor, generator: Generators) -> dict[str, Tensor]:
    """Lose by one pattern of ``PATTERNS`` at rates ``(B,)``."""
    match pattern:
        case "modalities":
            return drop_modalities(masks, rates, generator=_source(generator, ""))
        case "together":
            return drop_together(masks, rates, generator=_source(generator, ""))
        case "unequal":
            shares = unequal_rates(masks, rates, generator=_source(generator, ""))
            return {
                name: drop_frames(mask, shares[name], generator=_source(generator, name))
                for name, mask in masks.items()
            }
    lose = {"frames": drop_frames, "bursts": _drop_bursts, "block": drop_block}[pattern]
    return {name: lose(mask, rates, generator=_source(generator, name)) for name, mask in masks.items()}


def _drop_bursts(mask: Tensor, rate: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Lose bursts of ``BURST_LENGTH`` elements on average, or of the least length that the rate allows."""
    least = torch.where(rate < 1, rate / (1 - rate), 0.0)  # where all is lost, any length will do
    return drop_bursts(mask, rate, mean_length=least.clamp(min=BURST_LENGTH), generator=generator)


def _source(generator: Generators, name: str) -> torch.Generator | None:
    """Return what a modality draws from; under "", what all draw from together."""
    if not isinstance(generator, Mapping):
        return generator
    if name not in generator:
        owner = f"modality {name!r}" if name else "what modalities have in common"
        raise ValueError(
            f"drop expected generator to hold a torch.Generator under {name!r}, for {owner}, got only "
            f"{tuple(generator)}; add it, or pass one generator for all."
        )
    return generator[name]
