"""Modalities lost whole: by chance, or all but some."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from .._checks import check_flag
from ._draws import check_masks, draw_uniform, rate_column


def drop_modalities(
    masks: Mapping[str, Tensor],
    rate: float | Tensor,
    *,
    generator: torch.Generator | None = None,
    keep_one: bool = True,
) -> dict[str, Tensor]:
    """Lose every modality of a sample as a whole, independently with probability ``rate``.

    One uniform number is drawn per sample and modality, in the mapping's order. With ``keep_one``, a sample that
    would lose all it has keeps the modality with the largest number, a uniform choice; losses at a lower rate
    are therefore a subset of those at a higher one here too. A modality without a real element in a sample is
    already missing there and cannot be the one kept.

    Args:
        masks: modality name -> ``(B, T_m)`` bool, True where an element is real.
        rate: probability in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.
        keep_one: leave every sample at least one of the modalities it has.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and survived.

    Raises:
        ValueError: if there is no modality, a mask is not bool ``(B, T_m)`` or differs in B, or as for
            ``drop_frames``.

    Example:
        >>> masks = {"text": torch.ones(4, 3, dtype=torch.bool), "audio": torch.ones(4, 5, dtype=torch.bool)}
        >>> keep = drop_modalities(masks, 1.0)
        >>> keep["text"].any(1) ^ keep["audio"].any(1)
        tensor([True, True, True, True])
    """
    first = check_masks("drop_modalities", masks)
    check_flag("drop_modalities", "keep_one", keep_one)
    rates = rate_column("drop_modalities", rate, first)
    uniform = draw_uniform("drop_modalities", torch.Size((len(first), len(masks))), first.device, generator)
    survives = uniform >= rates.to(first.device, torch.float32)
    if keep_one:
        present = torch.stack([mask.any(1) for mask in masks.values()], 1)
        last = uniform.masked_fill(~present, -1.0).argmax(1, keepdim=True)
        loses_all = ~(survives & present).any(1, keepdim=True)
        survives = survives | (loses_all & (torch.arange(len(masks), device=first.device) == last))
    return {name: mask & survives[:, m, None] for m, (name, mask) in enumerate(masks.items())}


def keep_modalities(masks: Mapping[str, Tensor], available: Collection[str]) -> dict[str, Tensor]:
    """Lose all modalities except ``available``, in every sample: a row of a table by available modality.

    Args:
        masks: modality name -> ``(B, T_m)`` bool, True where an element is real.
        available: names of the modalities that survive; may be empty.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and survived.

    Raises:
        ValueError: if ``available`` is one string or names a modality that ``masks`` lacks, or as for
            ``drop_modalities``.

    Example:
        >>> masks = {"text": torch.tensor([[True, False]]), "audio": torch.tensor([[True, True]])}
        >>> keep_modalities(masks, ["text"])
        {'text': tensor([[ True, False]]), 'audio': tensor([[False, False]])}
    """
    check_masks("keep_modalities", masks)
    if isinstance(available, str):
        raise ValueError(
            f"keep_modalities expected a collection of modality names as available, got the string "
            f"{available!r}; pass ({available!r},)."
        )
    if not isinstance(available, Collection):
        raise TypeError(
            f"keep_modalities expected available: a collection of modality names, got {available!r}; pass () to keep "
            "none."
        )
    unknown = tuple(name for name in available if name not in tuple(masks))
    if unknown:
        raise ValueError(
            f"keep_modalities expected available to name modalities out of {tuple(masks)}, got unknown "
            f"{unknown}; check the spelling or add their masks."
        )
    return {name: mask & (name in available) for name, mask in masks.items()}
