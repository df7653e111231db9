"""Drop across modalities: whole modalities, the same stretch of time in all, or one rate shared out unequally."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from .._checks import check, check_type
from ._draws import check_masks, draw_order, draw_uniform, rank_real, rate_column


def drop_modalities(
    masks: Mapping[str, Tensor],
    rate: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    order: Sequence[str] | None = None,
    keep_one: bool = True,
) -> dict[str, Tensor]:
    """Drop each modality of a sample as a whole, independently with probability ``rate``.

    One uniform number per sample and modality is drawn. With ``keep_one``, a sample that
    would have nothing left keeps the modality with the largest number, a uniform choice. So from the same generator
    state, what is dropped at a lower rate is dropped at a higher one, with ``keep_one`` or without. A modality
    without a real element in a sample is already missing there and cannot be the one that is kept.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real.
        rate: Probability in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.
        order: All modalities, in the order in which they are drawn. Default: sorted.
        keep_one: Leave every sample at least one of the modalities it has.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError: As for ``drop_frames``, or ``masks`` is not a mapping.
        ValueError: As for ``drop_frames``, or there is no modality, or the masks differ in B.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop_modalities(masks, 1.0)
        >>> keep["text"].any(1) ^ keep["audio"].any(1)
        tensor([True, True, True, True])
    """
    first = check_masks("drop_modalities", masks)
    check_type("drop_modalities", bool, keep_one=keep_one)
    rates = rate_column("drop_modalities", rate, first)
    uniform = draw_uniform("drop_modalities", torch.Size((len(first), len(masks))), first.device, generator)
    kept = uniform >= rates.to(first.device, torch.float32)
    names = draw_order("drop_modalities", masks, order)
    if keep_one:
        present = torch.stack([masks[name].any(1) for name in names], 1)
        last = uniform.masked_fill(~present, -1.0).argmax(1, keepdim=True)
        none_left = ~(kept & present).any(1, keepdim=True)
        kept = kept | (none_left & (torch.arange(len(masks), device=first.device) == last))
    return {name: mask & kept[:, names.index(name), None] for name, mask in masks.items()}


def keep_modalities(masks: Mapping[str, Tensor], available: Collection[str]) -> dict[str, Tensor]:
    """Drop all modalities except ``available``, in every sample: one row of a table by available modality.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real.
        available: Names of the modalities to keep; may be empty.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and kept.

    Raises:
        TypeError: ``masks`` is not a mapping of tensors, or ``available`` not a collection.
        ValueError: As for ``drop_modalities``, or ``available`` is one string or names a modality that ``masks`` lacks.

    Example:
        >>> masks = {"text": torch.tensor([[True, False]]), "audio": torch.tensor([[True, True]])}
        >>> keep_modalities(masks, ["text"])
        {'text': tensor([[ True, False]]), 'audio': tensor([[False, False]])}
    """
    check_masks("keep_modalities", masks)
    check_type("keep_modalities", Collection, available=available)
    known = not isinstance(available, str) and all(name in tuple(masks) for name in available)
    expected = f"available: a collection of names out of {tuple(masks)}"
    check(known, "keep_modalities", expected, available, "leave out the others, or add their masks")
    return {name: mask & (name in available) for name, mask in masks.items()}


def drop_together(
    masks: Mapping[str, Tensor], rate: float | Tensor, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Drop the same stretch of relative time, of length ``rate``, in every modality of a sample.

    One start per sample is drawn uniformly from [0, 1 - rate]. Of a modality's n real elements the k-th, counted
    from 0, is dropped where

        start <= (k + 1/2) / n < start + rate.

    Each end of the stretch is rounded by half an element at most, so ``rate * n`` elements of a modality are dropped,
    rounded down or up. From the same generator state, the stretch at a lower rate lies within that at a higher one.
    Time is relative because modalities rarely share a clock: text has none.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool, True where an element is real.
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
    first = check_masks("drop_together", masks)
    rates = rate_column("drop_together", rate, first)
    start = draw_uniform("drop_together", rates.shape, first.device, generator).to("cpu", torch.float64) * (1 - rates)
    return {name: mask & ~_within(mask, start, start + rates) for name, mask in masks.items()}


def unequal_rates(
    masks: Mapping[str, Tensor],
    rate: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Split one drop rate across a sample's modalities as unequally as possible; pass the result to ``drop_frames``.

    A budget of M times ``rate`` is poured into the M modalities in a random order, all orders equally likely, and
    each is filled to 1 before the next. Of three modalities at 0.5, one is dropped whole, one by half, and one not
    at all. The rates of a sample average to ``rate``, and so does each modality's over samples. The drawn order does
    not depend on ``rate``, so from the same generator state no modality's rate falls as it rises.

    Args:
        masks: Modality name -> ``(B, T_m)`` bool; only their names and B matter.
        rate: Mean over the modalities, in [0, 1]: a number, or ``(B,)`` with one per sample.
        generator: Source of the draws. Default: PyTorch's global one.
        order: All modalities, in the order in which they are drawn. Default: sorted.

    Returns:
        Modality name -> its rate per sample, ``(B,)`` float64 on the CPU.

    Raises:
        TypeError, ValueError: As for ``drop_modalities``.

    Example:
        >>> masks = {name: torch.ones(1, 9, dtype=torch.bool) for name in ("text", "audio", "vision")}
        >>> sorted(rate.item() for rate in unequal_rates(masks, 0.5).values())
        [0.0, 0.5, 1.0]
    """
    first = check_masks("unequal_rates", masks)
    budget = len(masks) * rate_column("unequal_rates", rate, first)
    uniform = draw_uniform("unequal_rates", torch.Size((len(first), len(masks))), first.device, generator).cpu()
    place = uniform.argsort(dim=1, stable=True).argsort(1)
    names = draw_order("unequal_rates", masks, order)
    rates = dict(zip(names, (budget - place).clamp(0, 1).unbind(1), strict=True))
    return {name: rates[name] for name in masks}


def _within(mask: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return which elements lie in ``[start, end)`` of relative time, both ``(B, 1)`` float64 on the CPU."""
    lengths = mask.sum(1, keepdim=True).cpu()
    first, after = ((lengths * time - 0.5).ceil().long().to(mask.device) for time in (start, end))
    rank = rank_real(mask)
    return (rank >= first) & (rank < after)
