"""The conditions of the evaluation: which frames of which modalities are kept."""

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from actions.clips import MODALITIES
from actions.recordings import Masks
from modx.missing import PATTERNS, drop, keep_modalities

TRAIN_PATTERN = "frames+bursts+block+modalities"
SUBSETS = tuple(subset for size in (2, 1) for subset in combinations(MODALITIES, size))
AVERAGED = (  # the mean of these is the summary of a model
    "complete",
    *("+".join(subset) for subset in SUBSETS),
    *(f"frames {rate}" for rate in (0.3, 0.5, 0.7, 0.9)),
    *(f"block {rate}" for rate in (0.3, 0.5, 0.7)),
)
CONDITIONS = (*AVERAGED, *(f"bursts {rate}" for rate in (0.3, 0.5, 0.7)))
LOST = tuple(f"published {part} {rate}" for part in ("skeleton", "inertial") for rate in (10, 30, 50))
PUBLISHED = ("published clean", *LOST, "published no skeleton", "published no inertial")


def draws(condition: str) -> int:
    """Return over how many draws of masks a condition is averaged."""
    return 3 if condition.split()[0] in PATTERNS else 1


def keep_masks(masks: Masks, condition: str, generator: torch.Generator) -> Masks:
    """Return keep masks ``(B, T)``, False where a frame is dropped.

    Args:
        masks: The frames that the clips have.
        condition: "complete", names of modalities joined by plus signs, or a pattern of ``modx.missing.drop`` and its
            rate.
        generator: Source of random draws.

    Raises:
        ValueError: The condition is none of these.
    """
    match condition.split():
        case ["complete"]:
            return masks
        case [names] if {*names.split("+")} <= masks.keys():
            return keep_modalities(masks, {*names.split("+")})
        case [pattern, rate] if pattern in PATTERNS and rate.replace(".", "", 1).isdigit():
            return drop(masks, float(rate), pattern, generator=generator)
    raise ValueError(
        "keep_masks expected condition to be 'complete', modalities joined by plus signs, or a pattern from "
        f"{tuple(PATTERNS)} and its rate, e.g. 'frames 0.5', got {condition!r}."
    )


class PublishedMasks:
    """The frames that SafeSense drops, of one modality at a time.

    Its inertial data are resampled to the skeleton's frames: to each of them, the nearest frame in time. So all other
    inertial frames count as dropped in every one of its conditions.

    Args:
        path: An ``.npz`` file with ``keep_10``, ``keep_30`` and ``keep_50``: bool ``(n, T)``, over skeleton frames.
        rows: Which clips of the data set, ``(m,)``.

    Raises:
        ValueError: The file lacks an array.
    """

    def __init__(self, path: Path, rows: np.ndarray) -> None:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ("keep_10", "keep_30", "keep_50") if name not in file]:
                raise ValueError(
                    f"PublishedMasks expected keep_10, keep_30 and keep_50 in {str(path)!r}, no {missing}."
                )
            self.keep = {rate: torch.from_numpy(file[f"keep_{rate}"][rows]) for rate in ("10", "30", "50")}

    def keep_masks(self, masks: Masks, condition: str) -> Masks:
        """Return keep masks ``(B, T)`` of one of ``PUBLISHED``, given the ``masks`` of all clips of ``rows``."""
        part, rate = condition.removeprefix("published ").split(" ") if condition != "published clean" else ("", "")
        joints = inertial = masks["skeleton"]
        if rate in self.keep:
            kept = _fit(self.keep[rate], joints)
            joints, inertial = (kept, joints) if part == "skeleton" else (joints, kept)
        elif part == "no":
            joints, inertial = (joints & (rate != "skeleton"), inertial & (rate != "inertial"))
        aligned = {name: _align(inertial, masks["skeleton"], masks[name]) for name in ("accelerometer", "gyroscope")}
        return aligned | {"skeleton": joints}


def _fit(keep: Tensor, mask: Tensor) -> Tensor:
    wide = torch.zeros_like(mask)
    width = min(keep.shape[1], mask.shape[1])
    wide[:, :width] = keep[:, :width]
    return wide & mask


def _align(keep: Tensor, skeleton: Tensor, mask: Tensor) -> Tensor:
    """Keep the frames of another modality that are nearest to kept frames of the skeleton."""
    kept = torch.zeros_like(mask)
    for row, length in enumerate(skeleton.sum(1).tolist()):
        last = int(mask[row].sum()) - 1
        nearest = (torch.arange(length, dtype=torch.float64) * last / max(length - 1, 1)).round().long()
        kept[row, nearest[keep[row, :length]]] = True
    return kept
