"""Overwrite dropped elements in the values themselves."""

from collections.abc import Collection

import torch
from torch import Tensor

from .._checks import check_int, check_tensor, is_int
from ._draws import check_mask


def erase(
    values: Tensor,
    keep: Tensor,
    *,
    unk_token_id: int | None = None,
    special_token_ids: Collection[int] = (),
) -> Tensor:
    """Overwrite dropped elements: features with zeros (eq. 1), token ids with the unknown token.

    Dropped features are replaced, never multiplied by 0, so a NaN or infinity in them reaches neither the result nor
    a gradient. Padding is overwritten too, since its ``keep`` is False; name [PAD] among ``special_token_ids`` to leave
    it in place.

    Args:
        values: ``(B, T, D)`` floating-point features, or ``(B, T)`` integer token ids.
        keep: ``(B, T)`` bool, True where an element is kept.
        unk_token_id: Replaces a dropped token; required for token ids, unused for features.
        special_token_ids: Ids that stay even where ``keep`` is False, such as [CLS], [SEP] and [PAD].

    Returns:
        A new tensor with the shape and dtype of ``values``.

    Raises:
        TypeError: ``values`` or ``keep`` is not a tensor, or an id is not an int.
        ValueError: ``keep`` is not bool ``(B, T)``, ``values`` is neither of the two kinds or of another shape, or
            token ids come without ``unk_token_id``.

    Example:
        >>> keep = torch.tensor([[False, True, False, False]])
        >>> erase(torch.tensor([[101, 2023, 2003, 102]]), keep, unk_token_id=100, special_token_ids=(101, 102))
        tensor([[ 101, 2023,  100,  102]])
        >>> erase(torch.full((1, 4, 1), torch.nan), torch.zeros_like(keep)).flatten()
        tensor([0., 0., 0., 0.])
    """
    check_mask("erase", "keep", keep)
    check_tensor("erase", "values", values)
    is_features = values.is_floating_point()
    is_ids = not is_features and not values.is_complex() and values.dtype != torch.bool
    if not ((is_features and values.ndim == 3) or (is_ids and values.ndim == 2)):
        raise ValueError(
            f"erase expected values to be floating (B, T, D) or integer token ids (B, T), got {values.dtype} "
            f"{tuple(values.shape)}; give features a last axis, and ids an integer dtype."
        )
    if values.shape[:2] != keep.shape:
        raise ValueError(
            f"erase expected keep to have the (B, T) of values, {tuple(values.shape[:2])}, got "
            f"{tuple(keep.shape)}; pass the keep mask made from the mask of these values."
        )
    if is_features:
        return torch.where(keep.unsqueeze(-1), values, 0.0)
    if unk_token_id is None:
        raise ValueError(
            "erase expected unk_token_id for integer token ids, got None; pass the id of the tokenizer's unknown token."
        )
    ids = special_token_ids if isinstance(special_token_ids, Collection) else (None,)
    if not all(is_int(token_id) for token_id in ids):
        raise TypeError(
            f"erase expected special_token_ids to be several ints, got {special_token_ids!r}; pass the ids, not "
            "the tokens."
        )
    check_int("erase", "unk_token_id", unk_token_id)
    limits = torch.iinfo(values.dtype)
    if not limits.min <= unk_token_id <= limits.max:
        raise ValueError(
            f"erase expected unk_token_id that values of {values.dtype} can hold, got {unk_token_id}; convert the "
            "values to torch.int64."
        )
    for token_id in special_token_ids:
        keep = keep | (values == token_id)
    return torch.where(keep, values, unk_token_id)
