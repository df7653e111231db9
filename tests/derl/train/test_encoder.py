"""Where a text encoder comes from: a folder, the cache, the Hub, or the data; and how quickly its absence is said."""

import time

import pytest

from derl.data.words import word_tokenizer
from derl.train import encoder as module
from derl.train.encoder import find_encoder
from derl.train.run import RunError


class Hub:
    """Stands for the Hub: counts the questions, and answers or fails."""

    def __init__(self, error=None):
        self.asked, self.error = [], error

    def __call__(self):
        return self

    def model_info(self, name, timeout):
        self.asked.append((name, timeout))
        if self.error is not None:
            raise self.error


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds the configuration of one encoder; returns its folder."""
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(
        module, "try_to_load_from_cache", lambda name, file: str(tmp_path / file) if name == "cached" else None
    )
    return tmp_path


def test_a_folder_and_a_whole_cached_encoder_need_no_hub(cache, monkeypatch):
    monkeypatch.setattr(module, "HfApi", Hub(error=AssertionError("asked the Hub")))
    assert find_encoder(str(cache)) == str(cache)
    (cache / "model.safetensors").touch()
    (cache / "tokenizer.json").touch()
    assert find_encoder("cached") == str(cache)


def test_what_is_not_whole_in_the_cache_is_asked_for_once_with_a_limit(cache, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(module, "HfApi", hub)
    assert find_encoder("cached") == "cached"
    assert hub.asked == [("cached", 5.0)]


@pytest.mark.parametrize("error", [RuntimeError("Name or service not known"), TimeoutError(), ValueError("404\nmore")])
def test_without_it_one_line_says_what_to_name_and_how_to_go_on(cache, monkeypatch, error):
    monkeypatch.setattr(module, "HfApi", Hub(error))
    with pytest.raises(
        RunError, match=r"name a folder .*, or train a small one from the data with --text_encoder words"
    ) as found:
        find_encoder("bert-base-uncased")
    assert "\n" not in str(found.value)


def test_offline_it_is_said_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = time.monotonic()
    with pytest.raises(RunError, match="--text_encoder words"):
        find_encoder("nobody/has-this-one")
    assert time.monotonic() - started < 10


def test_the_vocabulary_is_the_training_words_and_not_more_than_a_limit(monkeypatch):
    tokenizer = word_tokenizer(["a a b", "a c"])
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer)))[5:] == ["a", "b", "c"]
    assert word_tokenizer(["我喜欢"])("我")["input_ids"][1:-1] != [tokenizer.unk_token_id]
    monkeypatch.setattr("derl.data.words.MOST_WORDS", 6)
    assert word_tokenizer(["a a b", "a c"]).convert_ids_to_tokens([5]) == ["a"]
    assert len(word_tokenizer(["a a b", "a c"])) == 6
