"""The text encoder of a run: pretrained, or a small one trained along with the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerBase

from derl.data.split import DataError
from derl.train.recipes import WORDS
from derl.train.run import RunError

SECONDS = 5.0  # to wait for the Hub
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model", "vocab.json")


def find_encoder(encoder: str) -> str:
    """Return the folder of a text encoder if this machine has it, or its name if the Hub has it.

    The Hub is asked once, and only for what is neither a folder nor in the cache.

    Raises:
        RunError: There is no such encoder, or the Hub does not answer.
    """
    if Path(encoder).exists():
        return encoder
    with explained(encoder):
        cached = try_to_load_from_cache(encoder, "config.json")
        if isinstance(cached, str):
            folder = Path(cached).parent
            if all(any((folder / name).exists() for name in names) for names in (WEIGHTS, TOKENIZERS)):
                return str(folder)
        try:
            HfApi().model_info(encoder, timeout=SECONDS)
        except Exception as error:  # the name, the network or the Hub: all mean that it cannot be had
            raise OSError(error) from error
    return encoder


def load_tokenizer(encoder: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a text encoder, given its folder or its name on the Hub.

    Raises:
        RunError: There is no tokenizer, or it lacks an unknown or a padding token.
    """
    with explained(encoder):
        tokenizer = AutoTokenizer.from_pretrained(encoder)
    if tokenizer.unk_token_id is None or tokenizer.pad_token_id is None:
        raise RunError(
            f"--text_encoder {encoder}: expected a tokenizer with an unknown token (for missing words) and a "
            "padding token, found one without; choose another encoder."
        )
    return tokenizer


def small_encoder(tokenizer: PreTrainedTokenizerBase, longest: int) -> BertConfig:
    """Return the configuration of a small encoder to train from scratch."""
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=max(64, longest),
    )


@contextmanager
def explained(encoder: str) -> Iterator[None]:
    """Turn a failure to load into a one-line error."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(
            f"--text_encoder {encoder}: expected a folder or a model on the Hugging Face Hub, found none "
            f"({reason[0]}); name a folder that holds a tokenizer and a model, or train a small one from the data with "
            f"--text_encoder {WORDS}."
        ) from error
