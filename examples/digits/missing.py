"""The conditions of the test: how views go missing."""

import torch
from torch import Tensor

from digits.views import SHAPES, Views
from modx.missing import PATTERNS, drop, keep_modalities

TRAIN_PATTERN = "frames+modalities"  # every sample drops single frames or whole views, at its own rate
RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
CONDITIONS = (
    "complete",
    *(f"no {name}" for name in SHAPES),
    *(f"only {name}" for name in SHAPES),
    *(f"frames {rate}" for rate in RATES),
    "block 0.5",  # training uses neither this pattern nor the next
    "unequal 0.5",
)


def everything(views: Views) -> dict[str, Tensor]:
    """Return masks ``(B, frames)`` that keep everything."""
    return {name: torch.ones(view.shape[:2], dtype=torch.bool) for name, view in views.items()}


def keep_masks(views: Views, condition: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Return keep masks ``(B, frames)``, False where a frame is dropped.

    Args:
        views: name -> ``(B, frames, features)``.
        condition: "complete", "no NAME", "only NAME", or a pattern of ``modx.missing.drop`` and its rate.
        generator: source of random draws.

    Raises:
        ValueError: The condition is none of these.
    """
    masks = everything(views)
    match condition.split():
        case ["complete"]:
            return masks
        case ["no", name] if name in masks:
            return keep_modalities(masks, set(masks) - {name})
        case ["only", name] if name in masks:
            return keep_modalities(masks, {name})
        case [pattern, rate] if pattern in PATTERNS and rate.replace(".", "", 1).isdigit():
            return drop(masks, float(rate), pattern, generator=generator)
    raise ValueError(
        f"keep_masks expected condition to be 'complete', 'no NAME' or 'only NAME' with a name from {tuple(masks)}, or "
        f"a pattern from {tuple(PATTERNS)} and its rate, e.g. 'frames 0.5', got {condition!r}."
    )
