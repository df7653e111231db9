"""Read raw arrays, lists and masks of samples, as users give them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from derl.data.split import DataError


def without_nan(value: Any) -> Any:
    """Return what was given for a modality with None in place of NaN, which is an empty cell of a table.

    Example:
        >>> without_nan(["so good", float("nan")]), without_nan(float("nan"))
        (['so good', None], None)
    """
    if isinstance(value, (list, tuple)):
        return [None if _is_nan(sample) else sample for sample in value]
    return None if _is_nan(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def is_single(name: str, value: Any) -> bool:
    """Return whether a modality is given for one sample rather than for a list of them.

    Raises:
        DataError: It is neither.
    """
    if name == "text":
        if not isinstance(value, (str, list, tuple)):
            raise DataError(
                f"predict expected text to be a string or a list of strings, got {type(value).__name__}; pass the raw "
                "words, the model has its own tokenizer."
            )
        return isinstance(value, str)
    ndim = _count_axes(value)
    if ndim not in (2, 3):
        raise DataError(
            f"predict expected {name} to be frames (L, D) or a list of them, got {ndim} axes; one frame is (1, D)."
        )
    return ndim == 2


def _count_axes(value: Any) -> int:
    """Return the number of axes of an array or of nested lists, judging by the first element that is not None."""
    if isinstance(value, (list, tuple)):
        first = next((part for part in value if part is not None), None)
        if first is None:
            return 3  # no sample, or only samples without this modality
        return 1 + _count_axes(first)
    return int(getattr(value, "ndim", 0))


def read_masks(masks: Any, rows: Mapping[str, Sequence[Any]], single: Mapping[str, bool]) -> dict[str, Sequence[Any]]:
    """Return modality -> one mask or None per sample."""
    if masks is None:
        return {}
    if not isinstance(masks, Mapping):
        raise DataError(
            f"predict expected masks to be a dict by modality, got {type(masks).__name__}; name the modality."
        )
    found = {}
    for name, value in masks.items():
        if name not in rows or name == "text":
            known = tuple(other for other in rows if other != "text")
            raise DataError(
                f"predict expected masks of {known}, the frames that are given, got {name!r}; "
                + ("write [UNK] for a missing word." if name == "text" else "leave it out.")
            )
        found[name] = [value] if single[name] else list(value)
        if len(found[name]) != len(rows[name]):
            raise DataError(
                f"predict expected {len(rows[name])} masks of {name}, one per sample, got {len(found[name])}; put None "
                "where all frames were observed."
            )
    return found


def read_frames(name: str, value: Any, mask: Any, width: int, where: str) -> Tensor:
    """Return one sample's frames as float32 ``(L, D)``, NaN where its mask hides them.

    Raises:
        DataError: They are no numbers of this width, or the mask does not fit them.
    """
    frames = _as_frames(name, value, where)
    if frames.shape[1] != width:
        raise DataError(
            f"predict expected {name} of shape (frames, {width}), got {tuple(frames.shape)}{where}; the model was "
            f"trained on {width} features per frame."
        )
    return frames.masked_fill(_hidden(name, frames, mask, where)[:, None], torch.nan)


def in_sample(row: int, rows: Sequence[Any]) -> str:
    """Name a sample at the end of a message, if there are several."""
    return f" in sample {row}" if len(rows) > 1 else ""


def _as_frames(name: str, value: Any, where: str) -> Tensor:
    try:
        with np.errstate(over="ignore"):  # values out of range become infinite, which counts as missing
            frames = value if isinstance(value, Tensor) else torch.tensor(_numbers(value).astype(np.float32))
        if frames.ndim != 2 or frames.is_complex():
            raise ValueError(f"shape {tuple(frames.shape)} of {frames.dtype}")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"predict expected {name} to be numbers (frames, features), got {error}{where}; convert it first."
        ) from error
    return frames.detach().cpu().float()


def _numbers(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of {array.dtype}")
    return array


def _hidden(name: str, frames: Tensor, mask: Any, where: str) -> Tensor:
    """Return which frames a mask hides, bool ``(L,)``."""
    if mask is None:
        return torch.zeros(len(frames), dtype=torch.bool)
    mask = torch.as_tensor(mask, device="cpu")
    if mask.dtype != torch.bool or mask.shape != frames.shape[:1]:
        raise DataError(
            f"predict expected a mask of {name} of shape ({len(frames)},) and type bool, got {tuple(mask.shape)} of "
            f"{mask.dtype}{where}; pass True for each frame that was observed."
        )
    return ~mask
