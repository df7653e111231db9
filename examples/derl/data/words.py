"""A tokenizer of whole words, made from the training texts, for an encoder that is trained along."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from transformers import PreTrainedTokenizerFast

MOST_WORDS = 20_000
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer that knows the most frequent words and marks of the texts, in lower case.

    A Chinese character is a word. Every other word becomes [UNK], which also stands for a missing word.

    Example:
        >>> tokenizer = word_tokenizer(["So good!", "So bad."])
        >>> tokenizer.convert_ids_to_tokens(tokenizer("so GOOD, really")["input_ids"])
        ['[CLS]', 'so', 'good', '[UNK]', '[UNK]', '[SEP]']
    """
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))  # noqa: S106 - a word, not a password
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    specials = list(SPECIAL_TOKENS.values())
    trainer = WordLevelTrainer(vocab_size=MOST_WORDS, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return finish(tokenizer)


def finish(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Put a text between [CLS] and [SEP]."""
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
