import pytest
from tokenizers import Tokenizer, normalizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from derl.data.tokens import tokenize

SPECIAL = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}


@pytest.fixture(scope="module")
def tokenizer():
    """Like BERT's: it removes control characters, and frames a text by [CLS] and [SEP]."""
    vocabulary = {token: index for index, token in enumerate([*SPECIAL.values(), "good"])}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a word, not a password
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = WhitespaceSplit()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("good", [1, 4, 2]),
        ("unheard of", [1, 0, 0, 2]),  # words, though unknown ones
        ("good good good", [1, 4, 4, 2]),
        (None, []),
        ("", []),
        (" \n", []),
        ("\x00 \u200b", []),  # nothing is left of it
    ],
    ids=repr,
)
def test_a_text_without_words_has_no_tokens(tokenizer, text, tokens):
    assert tokenize([text, "good"], tokenizer, 4) == [tokens, [1, 4, 2]]
    assert tokenize([text], tokenizer) == [tokens if text != "good good good" else [1, 4, 4, 4, 2]]
    assert tokenize([], tokenizer) == []
