"""Overwrite dropped elements."""

from collections.abc import Collection

import torch
from torch import Tensor

from .._checks import check_range, check_shapes, check_type, message


def erase(
    values: Tensor,
    keep: Tensor,
    *,
    unk_token_id: int | None = None,
    special_token_ids: Collection[int] = (),
) -> Tensor:
    """Overwrite dropped elements: features with zeros (eq. 1), token ids with the unknown token.

    Dropped features are replaced rather than multiplied by 0, so NaN and infinity in them reach neither the result nor
    a gradient. Padding is overwritten too, because its ``keep`` is False. To preserve it, add the id of [PAD] to
    ``special_token_ids``.

    Args:
        values: ``(B, T, D)`` floating-point features, or ``(B, T)`` integer token ids.
        keep: ``(B, T)`` bool, True where an element is kept.
        unk_token_id: Id that replaces dropped tokens. Required for token ids, unused for features.
        special_token_ids: Ids that are never overwritten, such as those of [CLS], [SEP] and [PAD].

    Returns:
        A new tensor with the shape and dtype of ``values``.

    Raises:
        TypeError: ``values`` or ``keep`` is not a tensor, or an id is not an int.
        ValueError: A shape or dtype does not match, or ``unk_token_id`` is missing or does not fit in the dtype of
            ``values``.

    Example:
        >>> keep = torch.tensor([[False, True, False, False]])
        >>> erase(torch.tensor([[101, 2023, 2003, 102]]), keep, unk_token_id=100, special_token_ids=(101, 102))
        tensor([[ 101, 2023,  100,  102]])
        >>> erase(torch.full((1, 4, 1), torch.nan), torch.zeros_like(keep)).flatten()
        tensor([0., 0., 0., 0.])
    """
    check_type("erase", Tensor, values=values)
    is_features = values.is_floating_point()
    check_shapes("erase", values=(values, "B T D" if is_features else "int B T"), keep=(keep, "bool B T"))
    if is_features:
        return torch.where(keep.unsqueeze(-1), values, 0.0)
    if unk_token_id is None:
        raise ValueError(message("erase", "unk_token_id for token ids", None, "pass the tokenizer's unk_token_id"))
    limits = torch.iinfo(values.dtype)
    check_range("erase", limits.min, limits.max, unk_token_id=unk_token_id)
    check_type("erase", Collection, special_token_ids=special_token_ids)
    for token_id in special_token_ids:
        check_type("erase", int, special_token_ids=token_id)
        keep = keep | (values == token_id)
    return torch.where(keep, values, unk_token_id)
