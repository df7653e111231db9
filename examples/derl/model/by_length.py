"""encode_by_length: a text encoder on rows of like length together, so that fewer of its tokens are padding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

# Tokens that take as long as one more call. On one CPU core MiniLM is as fast with 32 to 100 and slower with 150; an
# encoder of width 64, whose tokens are cheap, is fastest with 150.
CALL_COST = 100


def encode_by_length(encoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Encode a padded batch in a few calls, each as long as its own longest row.

    States of real tokens and gradients are those of one call, up to rounding. Dropout is drawn per call, so in
    training it drops other units than one call would. There is one call where more would not pay, when the encoder is
    compiled, exported or traced, on an accelerator (where more have not been measured), and when its weights are
    sharded (all processes must call it equally often).

    Args:
        encoder: a Hugging Face encoder.
        ids: ``(B, L)``, token ids.
        mask: bool ``(B, L)``, True where a token is real; a row may have holes, or nothing.

    Returns:
        States ``(B, L, D)``. Where a token is masked they mean nothing.
    """

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states

    if not _may_sort(encoder, ids):
        return encode(ids, mask)
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
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(ids) is not Tensor
        or ids.device.type != "cpu"
        or any(isinstance(parameter, DTensor) for parameter in encoder.parameters())
    )


def _cut(lengths: Tensor) -> list[int]:
    """Sizes of the parts that cost least together, each its padded tokens and ``CALL_COST``; lengths are sorted."""
    longest, counts = lengths.unique_consecutive(return_counts=True)
    ends = [0, *counts.cumsum(0).tolist()]
    best: list[tuple[int, list[int]]] = [(0, [])]  # of the rows before each end: cost, sizes
    for end, length in zip(ends[1:], longest.tolist(), strict=True):
        best.append(
            min(
                (cost + (end - start) * length + CALL_COST, [*sizes, end - start])
                for start, (cost, sizes) in zip(ends, best, strict=False)
            )
        )
    return best[-1][1]
