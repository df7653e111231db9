"""collate: pad samples of different lengths, some with missing modalities, to one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ._checks import check, check_type


def collate(samples: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pad samples to one batch, ready for ``fusion(*collate(samples))``.

    Args:
        samples: One mapping per sample: ``(L, D_m)`` per modality m, or ``(D_m,)`` for one frame, as a tensor, an array
            or a list of numbers. A modality that is None or left out is missing from the sample.

    Returns:
        Inputs and masks. Inputs are ``(B, L_m, D_m)`` per modality, where L_m is the longest sequence of the batch,
        with zeros where a sample is shorter or lacks the modality. Masks are bool ``(B, L_m)``, True where a frame is
        real. A modality that all samples lack is left out of both.

    Raises:
        TypeError: A sample is not a mapping.
        ValueError: No sample has a modality, a shape is neither ``(L, D_m)`` nor ``(D_m,)``, or samples differ in the
            width or dtype of a modality.

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
    check(found, "collate", "at least one modality in samples", (), "drop batches without any")
    batch = {name: _pad(name, found[name]) for name in sorted(found, key=str)}
    return {name: inputs for name, (inputs, _) in batch.items()}, {name: mask for name, (_, mask) in batch.items()}


def _frames(name: str, row: int, value: Any) -> Tensor:
    frames = torch.as_tensor(value)
    expected = f"samples[{row}][{name!r}] of shape (L, D) or (D,)"
    check(frames.ndim in (1, 2), "collate", expected, tuple(frames.shape), "pass one row of features per frame")
    return frames if frames.ndim == 2 else frames[None]


def _pad(name: str, parts: list[Tensor | None]) -> tuple[Tensor, Tensor]:
    first = next(part for part in parts if part is not None)
    for row, part in enumerate(parts):
        alike = part is None or (part.shape[1], part.dtype) == (first.shape[1], first.dtype)
        expected = f"samples[{row}][{name!r}] of width {first.shape[1]} in {first.dtype}, like earlier samples"
        check(alike, "collate", expected, part, "use the same features and dtype in every sample")
    rows = [first[:0] if part is None else part for part in parts]
    lengths = torch.tensor([len(part) for part in rows], device=first.device)
    inputs = pad_sequence(rows, batch_first=True)
    return inputs, torch.arange(inputs.shape[1], device=first.device) < lengths[:, None]
