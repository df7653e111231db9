"""Rates of loss that spare some modalities at the cost of others."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ._draws import check_masks, draw_uniform, rate_column


def unequal_rates(
    masks: Mapping[str, Tensor], rate: float | Tensor, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Share one rate out among the modalities of a sample, as unequally as can be, for ``drop_frames`` to lose.

    A budget of M times ``rate`` is poured into the M modalities in a random order, every order equally likely,
    each filled to 1 before the next: of three modalities at 0.5, one loses everything, one half and one nothing.
    The rates of a sample average to ``rate``, and so does each modality's over samples. The order does not depend
    on ``rate``, so from the same generator state no modality's rate falls as it rises.

    Args:
        masks: modality name -> ``(B, T_m)`` bool; only their names and B matter.
        rate: mean over the modalities, in [0, 1], one for all samples or ``(B,)``.
        generator: source of the draws; None uses PyTorch's default one.

    Returns:
        Modality name -> ``(B,)`` float64 on the CPU, its rate in each sample.

    Raises:
        ValueError: as for ``drop_modalities``.

    Example:
        >>> masks = {name: torch.ones(1, 9, dtype=torch.bool) for name in ("text", "audio", "vision")}
        >>> sorted(rate.item() for rate in unequal_rates(masks, 0.5).values())
        [0.0, 0.5, 1.0]
    """
    first = check_masks("unequal_rates", masks)
    budget = len(masks) * rate_column("unequal_rates", rate, first)
    uniform = draw_uniform("unequal_rates", torch.Size((len(first), len(masks))), first.device, generator).cpu()
    place_in_order = uniform.argsort(dim=1, stable=True).argsort(1)
    rates = (budget - place_in_order).clamp(0, 1)
    return dict(zip(masks, rates.unbind(1), strict=True))
