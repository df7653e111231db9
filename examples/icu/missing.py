"""Take more away: at test time by a condition, in training at random. What is taken away becomes NaN."""

import torch
from torch import Tensor

from icu.stays import Stays
from icu.variables import COLUMNS, HOURS, MODALITIES, SERIES
from modx.missing import drop, drop_frames, keep_modalities

CONDITIONS = (
    "complete",
    *(f"no {name}" for name in MODALITIES),
    "only vitals",
    "half the vitals",  # every second hour of them
    "half the hours",  # drawn at random, the same in every modality
    "first 24 hours",
)
TRAIN_PATTERN = "frames+modalities"  # single hours of each modality, or whole modalities
DROP_RATE = 0.5  # largest rate at which a stay's hours or modalities are dropped in training
COPIES = 3  # of each training stay with dropped input, beside the complete one
HOUR_SEED = 2012


def hide(stays: Stays, condition: str) -> Stays:
    """Return stays of which only what a condition leaves is there.

    Raises:
        ValueError: The condition is not one of ``CONDITIONS``.
    """
    keep = observed(stays)
    hours = torch.arange(HOURS)
    match condition.split():
        case ["complete"]:
            pass
        case ["no", name] if name in keep:
            keep = keep_modalities(keep, set(keep) - {name})
        case ["only", name] if name in keep:
            keep = keep_modalities(keep, {name})
        case ["half", "the", "vitals"]:
            keep["vitals"] = keep["vitals"] & (hours % 2 == 0)
        case ["half", "the", "hours"]:
            generator = torch.Generator().manual_seed(HOUR_SEED)
            shown = drop_frames(torch.ones(len(stays.died), HOURS, dtype=torch.bool), 0.5, generator=generator)
            keep = {name: mask & shown if name in COLUMNS else mask for name, mask in keep.items()}
        case ["first", "24", "hours"]:
            keep = {name: mask & (hours < 24) if name in COLUMNS else mask for name, mask in keep.items()}
        case _:
            raise ValueError(f"hide expected one of {CONDITIONS}, got {condition!r}.")
    return erase(stays, keep)


def drop_at_random(stays: Stays, rate: float, generator: torch.Generator) -> Stays:
    """Drop single hours or whole modalities of every stay, each stay at its own rate between 0 and ``rate``."""
    rates = rate * torch.rand(len(stays.died), generator=generator)
    return erase(stays, drop(observed(stays), rates, TRAIN_PATTERN, generator=generator))


def copies(stays: Stays, generator: torch.Generator) -> list[Stays]:
    """Return what every model trains on: the stays as they are, and copies with dropped input."""
    return [stays, *(drop_at_random(stays, DROP_RATE, generator) for _ in range(COPIES))]


def observed(stays: Stays) -> dict[str, Tensor]:
    """Return per modality in which hours ``(S, 48)`` it has a value; ``static`` has one frame ``(S, 1)``."""
    seen = {name: stays.values[..., columns].isfinite().any(-1) for name, columns in COLUMNS.items()}
    return seen | {"static": stays.static.isfinite().any(1, keepdim=True)}


def erase(stays: Stays, keep: dict[str, Tensor]) -> Stays:
    """Write NaN wherever ``keep``, one mask per modality, is False."""
    gone = torch.cat([~keep[name][..., None].expand(-1, -1, len(SERIES[name])) for name in COLUMNS], -1)
    return stays._replace(
        values=stays.values.masked_fill(gone, torch.nan),
        static=stays.static.masked_fill(~keep["static"], torch.nan),
    )
