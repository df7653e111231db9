"""A collator: pad the items of a dataset to a batch."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Collator:
    """Pad items of ``MissingDataset`` to the longest in the batch: text with ``pad_token_id``, the rest with 0.

    The batch is a dict.

    - ``inputs``: modality -> ``(B, L)`` int64 or ``(B, L, D)``.
    - ``masks``, ``keep``: modality -> ``(B, L)`` bool.
    - ``labels``: ``(B,)`` float32, if the items have labels.
    - ``index``: ``(B,)`` int64, the samples' places in their split, if ``with_index``.
    """

    def __init__(self, pad_token_id: int, *, with_index: bool = False) -> None:
        if not isinstance(pad_token_id, Integral):
            raise TypeError(
                f"Collator expected pad_token_id to be an int, got {pad_token_id!r}; give the tokenizer a pad token."
            )
        self.pad_token_id, self.with_index = pad_token_id, with_index

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            key: {modality: self._pad([item[key][modality] for item in items]) for modality in items[0][key]}
            for key in ("inputs", "masks", "keep")
        }
        if "labels" in items[0]:
            batch["labels"] = torch.tensor([item["labels"] for item in items], dtype=torch.float32)
        if self.with_index:
            batch["index"] = torch.tensor([item["index"] for item in items])
        return batch

    def _pad(self, rows: list[Tensor]) -> Tensor:
        padding = self.pad_token_id if rows[0].dtype == torch.int64 else 0
        return pad_sequence(rows, batch_first=True, padding_value=padding)
