"""Frames lost as one block."""

import torch
from torch import Tensor

from ._draws import check_mask, draw_uniform, rank_real, rate_column


def drop_block(mask: Tensor, rate: float | Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Lose one contiguous block of ``round(rate * n)`` of a sample's n real frames, placed uniformly.

    Contiguous means along the real frames: padding between them is stepped over. Halves round to even, as
    Python's ``round`` does.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: fraction in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and survived.

    Raises:
        ValueError: as for ``drop_frames``.

    Example:
        >>> mask = torch.tensor([[True, True, False, True, True], [True, True, False, False, False]])
        >>> drop_block(mask, 0.5).sum(1)
        tensor([2, 1])
    """
    check_mask("drop_block", "mask", mask)
    rates = rate_column("drop_block", rate, mask)
    lengths = mask.sum(1, keepdim=True)
    sizes = (rates * lengths.cpu()).round().long().to(mask.device)
    latest = lengths - sizes
    uniform = draw_uniform("drop_block", lengths.shape, mask.device, generator)
    start = (uniform * (latest + 1)).long().minimum(latest)  # a product can round up to latest + 1
    rank = rank_real(mask)
    return mask & ((rank < start) | (rank >= start + sizes))
