"""Tokenize transcripts; one without words has no tokens."""

from collections.abc import Sequence
from typing import Any

from derl.data.absence import is_blank


def tokenize(text: Sequence[str | None], tokenizer: Any, max_length: int | None = None) -> list[list[int]]:
    """Return the token ids of each transcript.

    A transcript that is None, is blank, or of which the tokenizer leaves only special tokens, is absent and has none.

    Args:
        text: the transcripts.
        tokenizer: a Hugging Face tokenizer.
        max_length: truncate to this many tokens. Default: no limit.
    """
    limit: dict[str, Any] = {"verbose": False} if max_length is None else {"truncation": True, "max_length": max_length}
    rows = tokenizer(["" if line is None else line for line in text], **limit)["input_ids"] if text else []
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return [[] if is_blank(line) or special.issuperset(row) else row for line, row in zip(text, rows, strict=True)]
