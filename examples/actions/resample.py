"""resample: a sequence with dropped frames, read at other times."""

import torch
from torch import Tensor

ROUNDING = 1e-4  # of a time, in frames


def resample(frames: Tensor, keep: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate linearly between the frames that were kept, whatever lies between them.

    Before the first kept frame and after the last, the values are theirs; without any, they are zeros. Dropped frames
    are never read, so they may hold NaN.

    Args:
        frames: ``(B, T, C)``.
        keep: Bool ``(B, T)``.
        times: ``(B, L)``, evenly spaced, in frames.

    Returns:
        Values ``(B, L, C)``, and bool ``(B, L)``: whether a kept frame is within half a frame, or half a step.

    Example:
        >>> frames = torch.tensor([[[0.0], [torch.nan], [4.0]]])
        >>> keep = torch.tensor([[True, False, True]])
        >>> values, observed = resample(frames, keep, torch.tensor([[0.0, 0.75, 1.0, 2.0]]))
        >>> values.flatten().tolist(), observed.flatten().tolist()
        ([0.0, 1.5, 2.0, 4.0], [True, False, False, True])
    """
    length = frames.shape[1]
    places = torch.arange(length).expand_as(keep)
    before = places.masked_fill(~keep, -1).cummax(1).values.gather(1, times.floor().long())
    after = places.masked_fill(~keep, length).flip(1).cummin(1).values.flip(1).gather(1, times.ceil().long())
    before, after = torch.where(before < 0, after, before), torch.where(after == length, before, after)
    none = before == length  # nothing was kept: ``after`` became -1
    before, after = before.masked_fill(none, 0), after.masked_fill(none, 0).clamp(min=0)
    gap = (after - before).clamp(min=1)
    weight = ((times - before) / gap).clamp(0, 1)[..., None]
    seen = torch.where(keep[..., None], frames, 0.0)
    early, late = (seen.gather(1, at[..., None].expand(-1, -1, frames.shape[2])) for at in (before, after))
    step = times[:, 1:2] - times[:, :1]
    near = torch.minimum((times - before).abs(), (times - after).abs()) <= step.clamp(min=1) / 2 + ROUNDING
    return torch.lerp(early, late, weight), near & ~none
