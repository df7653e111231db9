"""A text encoder small enough for every test."""

from transformers import BertConfig


def tiny_text(vocab_size: int = 130, layers: int = 2) -> BertConfig:
    """Width 16, two heads, and no dropout, so that the same input gives the same states in training."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
