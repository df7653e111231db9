"""Recordings: clips as padded tensors, and what a model sees of them when frames are dropped."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from actions.augment import Change
from actions.clips import MODALITIES, Clips
from actions.resample import resample

HIPS, SPINE = 3, 2  # joints, in the order of the data set
LENGTHS = {"accelerometer": 180, "gyroscope": 180, "skeleton": 80}  # frames that a model sees, whatever the clip's own
LARGEST = 6.0  # limit of a standardized feature
Masks = dict[str, Tensor]


class Inputs(NamedTuple):
    """What a model sees: per modality, standardized ``values`` (B, L, C) and bool ``observed`` (B, L)."""

    values: dict[str, Tensor]
    observed: dict[str, Tensor]


class Recordings:
    """All clips of some subjects.

    Skeletons are relative to the hips, frame by frame, and divided by the median length of the lower spine, which is
    taken over the frames that are kept. So a dropped frame is never read.

    Args:
        clips: The clips.
        rows: Which clips, ``(n,)``.
    """

    def __init__(self, clips: Clips, rows: np.ndarray) -> None:
        inertial = [clips.inertial[row] for row in rows]
        skeleton = [clips.skeleton[row] - clips.skeleton[row][:, HIPS : HIPS + 1] for row in rows]
        self.labels = torch.from_numpy(clips.action[rows]).long()
        self.frames = {
            "accelerometer": _pad([clip[:, :3] for clip in inertial]),
            "gyroscope": _pad([clip[:, 3:] / 100 for clip in inertial]),
            "skeleton": _pad([clip.reshape(len(clip), -1) for clip in skeleton]),
        }
        self.lengths = {
            name: torch.tensor([len(clip) for clip in (skeleton if name == "skeleton" else inertial)])
            for name in MODALITIES
        }

    def everything(self, rows: Tensor) -> Masks:
        """Return the masks ``(B, T)`` of the frames that clips have."""
        return {name: torch.arange(self.frames[name].shape[1]) < self.lengths[name][rows, None] for name in MODALITIES}

    def see(self, rows: Tensor, keep: Mapping[str, Tensor], change: Change | None = None) -> Inputs:
        """Return what is left of clips, before standardization.

        Args:
            rows: Which clips, ``(B,)``.
            keep: Per modality ``(B, T)``, True where a frame is kept.
            change: The augmentation. Default: none.
        """
        values, observed = {}, {}
        for name in MODALITIES:
            start, end = (0.0, 1.0) if change is None else (change.start[:, None], change.end[:, None])
            times = (start + (end - start) * torch.linspace(0, 1, LENGTHS[name])).clamp(0, 1).expand(len(rows), -1)
            times = times * (self.lengths[name][rows, None] - 1)
            part, observed[name] = resample(self.frames[name][rows], keep[name], times)
            if name == "skeleton":
                part = part / self._spine(rows, keep[name])[:, None, None]
            values[name] = part if change is None else change.apply(name, part)
        return Inputs(values, observed)

    def _spine(self, rows: Tensor, keep: Tensor) -> Tensor:
        joints = self.frames["skeleton"][rows].unflatten(2, (-1, 3))
        lengths = joints[:, :, SPINE].norm(dim=-1).masked_fill(~keep, torch.nan)
        return lengths.nanmedian(1).values.nan_to_num(1.0).clamp(min=1e-3)


class Scale(NamedTuple):
    """The mean and standard deviation ``(C,)`` of every feature in the training clips."""

    mean: dict[str, Tensor]
    deviation: dict[str, Tensor]

    @classmethod
    def fit(cls, recordings: Recordings) -> "Scale":
        """Measure complete clips."""
        rows = torch.arange(len(recordings.labels))
        flat = {
            name: part.flatten(0, 1) for name, part in recordings.see(rows, recordings.everything(rows)).values.items()
        }
        deviation = {name: part.std(0).clamp(min=0.05) for name, part in flat.items()}  # the hips do not move
        return cls({name: part.mean(0) for name, part in flat.items()}, deviation)

    def apply(self, inputs: Inputs) -> Inputs:
        """Standardize, and clip what is far out."""
        values = {
            name: ((part - self.mean[name]) / self.deviation[name]).clamp(-LARGEST, LARGEST)
            for name, part in inputs.values.items()
        }
        return Inputs(values, inputs.observed)


def _pad(clips: list[np.ndarray]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True)
