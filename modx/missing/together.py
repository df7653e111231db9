"""An outage that all modalities share."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ._draws import check_masks, draw_uniform, rank_real, rate_column


def drop_together(
    masks: Mapping[str, Tensor], rate: float | Tensor, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Lose one stretch of relative time, of length ``rate``, in every modality of a sample at once.

    One start per sample is drawn uniformly from [0, 1 - rate], and of a modality's n real elements the k-th, from
    0, is lost if

        start <= (k + 1/2) / n < start + rate.

    Each end of the stretch is rounded by half an element at most, so a modality loses ``rate * n`` of them, rounded
    down or up. From the same generator state the stretch at a lower rate lies within that at a higher one. Times are
    relative because modalities rarely share a clock: text has none.

    Args:
        masks: modality name -> ``(B, T_m)`` bool, True where an element is real.
        rate: fraction in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        Modality name -> ``(B, T_m)`` bool, True where an element is real and survived.

    Raises:
        ValueError: as for ``drop_modalities``.

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


def _within(mask: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return which elements lie in ``[start, end)`` of relative time, both ``(B, 1)`` float64 on the CPU."""
    lengths = mask.sum(1, keepdim=True).cpu()
    first, after = ((lengths * time - 0.5).ceil().long().to(mask.device) for time in (start, end))
    rank = rank_real(mask)
    return (rank >= first) & (rank < after)
