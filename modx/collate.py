"""collate: ragged samples with holes become one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ._checks import check, check_type


def collate(samples: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pad samples to one batch, as in ``fusion(*collate(samples))``.

    Args:
        samples: Per sample ``(L, D_m)`` per modality m, or ``(D_m,)`` for one frame: a tensor, an array or lists of
            numbers. What a sample leaves out, or holds as None, is missing from it.

    Returns:
        Inputs ``(B, L_m, D_m)`` per modality, zeros where a sample is shorter or lacks it, and masks ``(B, L_m)``, True
        where a frame is real. L_m is the longest of the batch. A modality that all samples lack is left out of both.

    Raises:
        TypeError: A sample is not a mapping.
        ValueError: A modality has another width, dtype or number of dimensions than in the samples before, or there is
            nothing at all.

    Example:
        >>> samples = [{"audio": torch.randn(5, 3)}, {"audio": torch.randn(2, 3), "vision": torch.randn(4)}]
        >>> inputs, masks = collate(samples)
        >>> inputs["audio"].shape, masks["audio"].sum(1), masks["vision"].tolist()
        (torch.Size([2, 5, 3]), tensor([5, 2]), [[False], [True]])
    """
    found: dict[str, list[Tensor | None]] = {}
    for row, sample in enumerate(samples):
        check_type("collate", Mapping, **{f"samples[{row}]": sample})
        for name, value in sample.items():
            if value is not None:
                found.setdefault(name, [None] * len(samples))[row] = _frames(name, row, value)
    check(found, "collate", "samples with at least one modality among them", (), "leave them out")
    batch = {name: _pad(name, found[name]) for name in sorted(found, key=str)}
    return {name: inputs for name, (inputs, _) in batch.items()}, {name: mask for name, (_, mask) in batch.items()}


def _frames(name: str, row: int, value: Any) -> Tensor:
    frames = torch.as_tensor(value)
    expected = f"{name!r} of samples[{row}] of shape (L, D) or (D,)"
    check(frames.ndim in (1, 2), "collate", expected, tuple(frames.shape), "give every frame one row of features")
    return frames if frames.ndim == 2 else frames[None]


def _pad(name: str, parts: list[Tensor | None]) -> tuple[Tensor, Tensor]:
    first = next(part for part in parts if part is not None)
    for row, part in enumerate(parts):
        alike = part is None or (part.shape[1], part.dtype) == (first.shape[1], first.dtype)
        expected = f"{name!r} of samples[{row}] of width {first.shape[1]} in {first.dtype}, like those before"
        check(alike, "collate", expected, part, "make them alike")
    rows = [first[:0] if part is None else part for part in parts]
    lengths = torch.tensor([len(part) for part in rows], device=first.device)
    inputs = pad_sequence(rows, batch_first=True)
    return inputs, torch.arange(inputs.shape[1], device=first.device) < lengths[:, None]
