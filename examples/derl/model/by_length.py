"""encode_by_length: run a text encoder on rows of similar length, and once on equal rows."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from modx._ordinary import why_unusual

# Overhead of one more call, in tokens. On one CPU core, MiniLM is as fast with 32 to 100 and slower with 150; an
# encoder of width 64, whose tokens are cheap, is fastest with 150.
CALL_COST = 100


def encode_by_length(encoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Encode a padded batch in a few calls, each only as long as its own longest row.

    States of real tokens, and gradients, equal those of a single call up to rounding. Dropout is drawn per call, so in
    training it drops other units than a single call would. In evaluation mode, rows that show the same tokens, such as
    one text under several test conditions, are encoded once. A single call is made if more would not save time; if the
    encoder is compiled, exported or traced; on an accelerator (more calls have not been measured there); and if its
    weights are sharded (all processes must call it equally often).

    Args:
        encoder: a Hugging Face encoder.
        ids: token ids ``(B, L)``.
        mask: bool ``(B, L)``, True where a token is real. A row may have gaps or no token at all.

    Returns:
        States ``(B, L, D)``. Those of masked tokens are meaningless.
    """

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states

    if not _may_sort(encoder, ids):
        return encode(ids, mask)
    if not encoder.training:
        shown, rows = torch.where(mask, ids, -1).unique(dim=0, return_inverse=True)
        if len(shown) < len(ids):
            return _encode_parts(encode, shown.clamp(min=0), shown >= 0).index_select(0, rows)
    return _encode_parts(encode, ids, mask)


def _encode_parts(encode: Callable[[Tensor, Tensor], Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    lengths = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(1).clamp(min=1)
    order = lengths.argsort(stable=True)
    sizes = _cut(lengths[order])
    if len(sizes) == 1:
        return encode(ids, mask)
    states = []
    for rows in order.split(sizes):
        longest = int(lengths[rows[-1]])
        part = encode(ids[rows, :longest], mask[rows, :longest])
        states.append(F.pad(part, (0, 0, 0, mask.shape[1] - longest)))
    return torch.cat(states).index_select(0, order.argsort())


def _may_sort(encoder: nn.Module, ids: Tensor) -> bool:
    sharded = any(isinstance(parameter, DTensor) for parameter in encoder.parameters())
    return why_unusual(ids) is None and ids.device.type == "cpu" and not sharded


def _cut(lengths: Tensor) -> list[int]:
    """Return the part sizes of least total cost, where a part costs its padded tokens plus ``CALL_COST``.

    Lengths must be sorted."""
    longest, counts = lengths.unique_consecutive(return_counts=True)
    ends = [0, *counts.cumsum(0).tolist()]
    best: list[tuple[int, list[int]]] = [(0, [])]  # (cost, sizes) for the rows before each end
    for end, length in zip(ends[1:], longest.tolist(), strict=True):
        best.append(
            min(
                (cost + (end - start) * length + CALL_COST, [*sizes, end - start])
                for start, (cost, sizes) in zip(ends, best, strict=False)
            )
        )
    return best[-1][1]
