"""Make a pretrained encoder of text ready for the model, and refuse one that cannot read its texts."""

from itertools import chain

import torch
from torch import nn
from transformers import PreTrainedModel

from derl.data.split import DataError
from derl.model.config import DerlConfig

_ALIGNMENT = 64  # bytes, as in PyTorch's CPU allocator


def own_weights(model: nn.Module) -> nn.Module:
    """Copy weights out of a memory-mapped file, to the alignment of PyTorch's allocator.

    MKL's summation order depends on the alignment of its operands. Without this copy, a loaded model's answers would
    differ in their last bits from those of the saved model.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()
    return model


def check_encoder(name: str, encoder: PreTrainedModel, config: DerlConfig) -> None:
    """Encode the longest text that the model may get, before anything is trained."""
    length = config.max_lengths["text"]
    ids = torch.full((1, length), config.unk_token_id)
    try:
        with torch.inference_mode():
            states = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        width = encoder.config.hidden_size
    except Exception as error:
        positions = getattr(encoder.config, "max_position_embeddings", length)
        found = f"{positions} positions" if positions < length else f"{type(error).__name__}: {str(error).strip()}"
        found = found.splitlines()[0][:200]
        raise DataError(
            f"--text_encoder {name}: expected an encoder of text such as BERT that reads {length} tokens, found "
            f"{type(encoder).__name__} with {found}; name another encoder, such as bert-base-uncased."
        ) from error
    if tuple(states.shape) != (1, length, width):
        raise DataError(
            f"--text_encoder {name}: expected states of shape (1, {length}, {width}), found "
            f"{tuple(states.shape)}; name another encoder, such as bert-base-uncased."
        )


def without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Remove the unused pooler, so that every remaining parameter gets a gradient."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder
