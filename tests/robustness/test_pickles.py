"""Thousands of damaged and hostile feature files: nothing runs, nothing grows, every failure is one clear error."""

import pickle

import pytest

import pickles


@pytest.fixture(scope="module")
def results():
    return pickles.attack(1600, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [make.__name__ for make in pickles.KINDS])
def test_every_file_is_read_or_refused_in_bounds(results, kind):
    files, _, slowest, largest = results[kind]
    assert files == 200
    assert slowest < pickles.SECONDS
    assert largest < pickles.MEMORY


@pytest.mark.slow
def test_some_damage_is_harmless_and_read(results):
    assert sum(whole for _, whole, _, _ in results.values()) > 0


def test_an_open_reader_would_be_caught(monkeypatch):
    def read(path):
        try:
            return pickle.loads(path.read_bytes())
        except Exception as error:
            raise pickles.DataError(f"{path}: expected a pickle, found none; get it.") from error

    monkeypatch.setattr(pickles, "KINDS", (pickles.gadget,))
    monkeypatch.setattr(pickles, "DANGEROUS", ("posix",))
    monkeypatch.setattr(pickles, "NAMES", ("getcwd", "umask"))
    monkeypatch.setattr(pickles, "read_mmsa", read)
    with pytest.raises(AssertionError, match=r"pickle\.find_class"):
        pickles.attack(50, seed=0)
