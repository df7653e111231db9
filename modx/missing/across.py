"""Drop across modalities: whole modalities, the same time span in all of them, or at unequal rates."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from .._checks import check, check_type
from ._draws import draw_order, draw_uniform, rank_real, rate_column, read_masks


def drop_modalities(
    masks: Mapping[str, Tensor | None],
    rate: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    order: Sequence[str] | None = None,
    keep_one: bool = True,
) -> dict[str, Tensor]:
    """Drop whole modalities of a sample, each independently with probability ``rate``.

    One uniform number is drawn per sample and modality. With ``keep_one``, a sample that would have nothing left keeps
    the modality with the largest number, a uniform choice. A modality without real elements in a sample is already
    missing, so it is never the one that is kept. From the same generator state, everything dropped at a lower rate is
    also dropped at a higher rate, with or without ``keep_one``.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real; None counts as left out.
        rate: Probability in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.
        order: All modalities, in the order in which they are drawn. Default: sorted.
        keep_one: Keep at least one modality per sample.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError: As for ``drop_frames``, or ``masks`` is not a mapping.
        ValueError: As for ``drop_frames``, or there are no modalities, or the masks differ in B.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop_modalities(masks, 1.0)
        >>> keep["text"].any(1) ^ keep["audio"].any(1)
        tensor([True, True, True, True])
    """
    given, first = read_masks("drop_modalities", masks)
    check_type("drop_modalities", bool, keep_one=keep_one)
    rates = rate_column("drop_modalities", rate, first)
    uniform = draw_uniform("drop_modalities", torch.Size((len(first), len(given))), first.device, generator)
    kept = uniform >= rates.to(first.device, torch.float32)
    names = draw_order("drop_modalities", masks, order)
    if keep_one:
        present = torch.stack([given[name].any(1) for name in names], 1)
        last = uniform.masked_fill(~present, -1.0).argmax(1, keepdim=True)
        none_left = ~(kept & present).any(1, keepdim=True)
        kept = kept | (none_left & (torch.arange(len(given), device=first.device) == last))
    return {name: mask & kept[:, names.index(name), None] for name, mask in given.items()}


def keep_modalities(masks: Mapping[str, Tensor | None], available: Collection[str]) -> dict[str, Tensor]:
    """Drop all modalities except ``available`` in every sample, e.g. to evaluate a model on a subset of modalities.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real; None counts as left out.
        available: Names of the modalities to keep; may be empty.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError: ``masks`` is not a mapping of tensors, or ``available`` is not a collection.
        ValueError: As for ``drop_modalities``, or ``available`` is a string or names a modality that is not in
            ``masks``.

    Example:
        >>> masks = {"text": torch.tensor([[True, False]]), "audio": torch.tensor([[True, True]])}
        >>> keep_modalities(masks, ["text"])
        {'text': tensor([[ True, False]]), 'audio': tensor([[False, False]])}
    """
    given, _ = read_masks("keep_modalities", masks)
    check_type("keep_modalities", Collection, available=available)
    known = not isinstance(available, str) and all(name in tuple(masks) for name in available)
    expected = f"available to be a collection of names from {tuple(masks)}"
    check(known, "keep_modalities", expected, available, "pass a list of names that have masks")
    return {name: mask & (name in available) for name, mask in given.items()}


def drop_together(
    masks: Mapping[str, Tensor | None], rate: float | Tensor, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Drop the same span of relative time, of length ``rate``, in every modality of a sample.

    One start per sample is drawn uniformly from [0, 1 - rate]. If a modality has n real elements, element k (counted
    from 0) is dropped where

        start <= (k + 1/2) / n < start + rate.

    So each modality drops ``rate * n`` elements, rounded down or up. From the same generator state, the span of a lower
    rate lies within the span of a higher rate. Time is relative because modalities rarely share a clock, and text has
    none.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real; None counts as left out.
        rate: Fraction in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError, ValueError: As for ``drop_modalities``.

    Example:
        >>> masks = {"text": torch.ones(1, 4, dtype=torch.bool), "audio": torch.ones(1, 8, dtype=torch.bool)}
        >>> keep = drop_together(masks, 0.5, generator=torch.Generator().manual_seed(0))
        >>> keep["text"], keep["audio"]
        (tensor([[ True, False, False,  True]]), tensor([[ True,  True, False, False, False, False,  True,  True]]))
    """
    given, first = read_masks("drop_together", masks)
    rates = rate_column("drop_together", rate, first)
    start = draw_uniform("drop_together", rates.shape, first.device, generator).to("cpu", torch.float64) * (1 - rates)
    return {name: mask & ~_within(mask, start, start + rates) for name, mask in given.items()}


def unequal_rates(
    masks: Mapping[str, Tensor | None],
    rate: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Split one drop rate across a sample's modalities as unequally as possible; pass the result to ``drop_frames``.

    Each sample distributes a total of M times ``rate`` over its M modalities in a random order, giving each a rate of 1
    before it moves on to the next. At 0.5, three modalities get the rates 1, 0.5 and 0. The mean over a sample's
    modalities is ``rate``, and so is the expected rate of each modality. All orders are equally likely and do not
    depend on ``rate``, so from the same generator state a higher ``rate`` never lowers the rate of a modality.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool; None counts as left out. Only the names and B matter.
        rate: Mean over the modalities, in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.
        order: All modalities, in the order in which they are drawn. Default: sorted.

    Returns:
        Modality name -> rate per sample, ``(B,)`` float64 on the CPU.

    Raises:
        TypeError, ValueError: As for ``drop_modalities``.

    Example:
        >>> masks = {name: torch.ones(1, 9, dtype=torch.bool) for name in ("text", "audio", "vision")}
        >>> sorted(rate.item() for rate in unequal_rates(masks, 0.5).values())
        [0.0, 0.5, 1.0]
    """
    given, first = read_masks("unequal_rates", masks)
    budget = len(given) * rate_column("unequal_rates", rate, first)
    uniform = draw_uniform("unequal_rates", torch.Size((len(first), len(given))), first.device, generator).cpu()
    place = uniform.argsort(dim=1, stable=True).argsort(1)
    names = draw_order("unequal_rates", masks, order)
    rates = dict(zip(names, (budget - place).clamp(0, 1).unbind(1), strict=True))
    return {name: rates[name] for name in given}


def _within(mask: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return which elements lie in ``[start, end)`` of relative time, both ``(B, 1)`` float64 on the CPU."""
    lengths = mask.sum(1, keepdim=True).cpu()
    first, after = ((lengths * time - 0.5).ceil().long().to(mask.device) for time in (start, end))
    rank = rank_real(mask)
    return (rank >= first) & (rank < after)
