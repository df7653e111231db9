"""Frames lost one by one."""

import torch
from torch import Tensor

from ._draws import check_mask, draw_uniform, rate_column


def drop_frames(mask: Tensor, rate: float | Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Lose every real frame independently with probability ``rate`` (Li et al., DERL, eq. 1).

    One uniform number is drawn per element and compared with the rate, so from the same generator state the
    frames lost at a lower rate are a subset of those lost at a higher one.

    Args:
        mask: ``(B, T)`` bool, True where a frame is real.
        rate: probability in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        ``(B, T)`` bool, True where a frame is real and survived.

    Raises:
        ValueError: if ``mask`` is not bool ``(B, T)``, or ``rate`` is out of range or of another shape.

    Example:
        >>> mask = torch.tensor([[True, True, False], [True, True, True]])
        >>> drop_frames(mask, torch.tensor([0.0, 1.0]))
        tensor([[ True,  True, False],
                [False, False, False]])
    """
    check_mask("drop_frames", "mask", mask)
    rates = rate_column("drop_frames", rate, mask)
    return mask & (
        draw_uniform("drop_frames", mask.shape, mask.device, generator) >= rates.to(mask.device, torch.float32)
    )
