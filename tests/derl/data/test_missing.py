import itertools
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset
from transformers import PreTrainedTokenizerFast

from derl.data.collate import Collator
from derl.data.load import load_data
from derl.data.missing import MissingDataset
from derl.data.split import DataError, Split, load_splits, save_splits
from derl.data.synthetic import make_synthetic
from modx.missing import PATTERNS, register_pattern

REAL = Path(__file__).parents[4] / "shared/data/mosi/unaligned_text_audio.pkl"
MAX_LENGTHS = {"text": 50, "audio": 20, "vision": 30}
MODALITIES = ("text", "audio", "vision")


@pytest.fixture(scope="module")
def synthetic():
    return make_synthetic(1, {"train": 40, "valid": 8, "test": 21}, MAX_LENGTHS)


def dataset(synthetic, split="train", *, modalities=MODALITIES, max_lengths=MAX_LENGTHS, seed=0, **mode):
    split = synthetic.splits[split] if isinstance(split, str) else split
    return MissingDataset(split, synthetic.tokenizer, max_lengths=max_lengths, modalities=modalities, seed=seed, **mode)


def fields(**changes):
    return {
        "ids": ["a", "b"],
        "text": ["one", "two words"],
        "features": {"audio": torch.ones(2, 3, 4)},
        "lengths": {"audio": torch.tensor([0, 3])},
        "labels": torch.tensor([0.2, -3.0]),
        "left_out": {"mood": "not numbers"},
    } | changes


def pick(split, rows):
    """A split of some rows of another, in a chosen order."""
    index = torch.tensor(rows)
    return Split(
        [split.ids[i] for i in rows],
        [split.text[i] for i in rows],
        {m: x[index] for m, x in split.features.items()},
        {m: n[index] for m, n in split.lengths.items()},
        split.labels[index],
    )


def lost(item):
    return {m: (item["masks"][m] & ~item["keep"][m]).tolist() for m in item["masks"]}


def same(first, second):
    return all(torch.equal(first["keep"][m], second["keep"][m]) for m in first["keep"])


def equal_splits(first, second):
    assert first.keys() == second.keys()
    for name in first:
        a, b = first[name], second[name]
        assert (a.ids, a.text, a.left_out) == (b.ids, b.text, b.left_out)
        torch.testing.assert_close(a.features, b.features, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(a.lengths, b.lengths, rtol=0, atol=0)
        torch.testing.assert_close(a.labels, b.labels, rtol=0, atol=0)


# --- Split ---


def infinity_at_row_1():
    frames = torch.ones(2, 3, 4)
    frames[0, 0, 0], frames[1, 2, 0] = torch.nan, torch.inf
    return frames


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ("a", "b")}, "expected ids to be a list of 2 str, found tuple"),
        ({"ids": ["a", 1]}, "expected ids"),
        ({"text": ["one"]}, "expected text to be a list of 2 str or None, found list of 1"),
        ({"labels": torch.ones(2, 1)}, r"expected labels to be torch.float32 \(2\), found .* \(2, 1\)"),
        ({"labels": torch.ones(2, dtype=torch.float64)}, "labels to be torch.float32"),
        ({"labels": torch.tensor([0, torch.inf])}, "labels without nan or infinity, .* row 1"),
        ({"features": {"audio": infinity_at_row_1()}}, r"features\['audio'\] without infinity, .* row 1"),
        ({"features": {"audio": torch.ones(2, 3)}}, r"features\['audio'\] to be .* \(2, any, any\), found"),
        ({"features": {"audio": torch.ones(3, 3, 4)}}, r"features\['audio'\]"),
        ({"features": {"audio": torch.ones(2, 3, 4).half()}}, r"features\['audio'\] .* found torch.float16"),
        ({"features": {"audio": np.ones((2, 3, 4))}}, "found ndarray"),
        ({"lengths": {}}, "lengths for the modalities"),
        ({"lengths": {"audio": torch.tensor([0, 4])}}, r"lengths\['audio'\] in 0 to 3, .* found 4 in row 1"),
        ({"lengths": {"audio": torch.tensor([-1, 3])}}, "found -1 in row 0"),
        ({"lengths": {"audio": torch.tensor([0, 3]).int()}}, r"lengths\['audio'\] to be torch.int64"),
        (
            {"features": {"a.b": torch.ones(2, 3, 4)}, "lengths": {"a.b": torch.ones(2).long()}},
            "'a.b'; rename that column",
        ),
        ({"text": None, "features": {}, "lengths": {}}, "text or features, found neither"),
        ({"ids": [], "text": [], "labels": torch.ones(0)}, "at least one row"),
    ],
)
def test_a_split_refuses_what_it_cannot_hold(changes, message):
    assert Split(**fields()).modalities == ("text", "audio")
    with pytest.raises(DataError, match=message):
        Split(**fields(**changes))


# --- the file ---


def test_splits_come_back_as_they_were_saved(tmp_path, synthetic):
    holes = torch.ones(2, 3, 4)
    holes[1, 0], holes[1, 1, 2] = torch.nan, torch.nan
    odd = Split(**fields(text=["one", None], features={"audio": holes}))
    splits = dict(synthetic.splits) | {"odd": odd, "no text": Split(**fields(text=None))}
    save_splits(splits, tmp_path / "new folder" / "splits.safetensors")
    equal_splits(load_splits(tmp_path / "new folder" / "splits.safetensors"), splits)
    assert os.listdir(tmp_path / "new folder") == ["splits.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "splits.safetensors"
    splits = {"train": Split(**fields())}
    save_splits(splits, path)
    before = path.read_bytes()

    def fail(tensors, temporary, metadata):
        Path(temporary).write_bytes(before[:50])
        raise OSError("no space left")

    monkeypatch.setattr("derl.data.split.save_file", fail)
    with pytest.raises(DataError, match="a place to write the splits to, found OSError: no space left"):
        save_splits(splits, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["splits.safetensors"]


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "splits.safetensors"
    save_splits({"train": Split(**fields())}, path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        save_splits({"train": Split(**fields(text=["other", "words"]))}, path)
        assert reader.read() == before != path.read_bytes()


def test_a_file_that_is_not_ours_is_refused(tmp_path):
    path = tmp_path / "splits.safetensors"
    save_splits({"train": Split(**fields())}, path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="expected splits written by save_splits"):
            load_splits(path)
    path.write_bytes(whole.replace(b"derl-splits-1", b"other-files-1"))
    with pytest.raises(DataError, match="'other-files-1'"):
        load_splits(path)
    with pytest.raises(DataError, match="absent"):
        load_splits(tmp_path / "absent.safetensors")


def mmsa(path, value=0.0):
    entry = {
        "raw_text": ["one", "two"],
        "id": ["a", "b"],
        "audio": np.full((2, 3, 4), value, np.float32),
        "regression_labels": np.zeros(2, np.float32),
    }
    path.write_bytes(pickle.dumps(dict.fromkeys(("train", "valid", "test"), entry), 4))


def test_a_pickle_is_read_once(tmp_path, monkeypatch, capsys):
    path, cache = tmp_path / "data.pkl", tmp_path / "cache.safetensors"
    mmsa(path, np.inf)
    first = load_data(path, cache)
    said = capsys.readouterr().out
    assert f"converting {path} to {cache}" in " ".join(said.split())
    assert "train: audio is absent in 2 of 2 samples" in said

    monkeypatch.setattr("derl.data.load.read_mmsa", lambda path: pytest.fail("unpickled again"))
    equal_splits(load_data(path, cache), first)
    said = capsys.readouterr().out
    assert "converting" not in said
    assert "train: audio is absent in 2 of 2 samples" in said
    equal_splits(load_data(cache, "unused"), first)


def test_a_changed_pickle_is_read_again(tmp_path):
    path, cache = tmp_path / "data.pkl", tmp_path / "cache.safetensors"
    for value in (1.0, 2.0):
        mmsa(path, value)
        assert load_data(path, cache)["test"].features["audio"].eq(value).all()


def test_a_cache_that_is_not_ours_is_never_overwritten(tmp_path):
    path, cache = tmp_path / "data.pkl", tmp_path / "precious.txt"
    mmsa(path)
    cache.write_text("precious")
    with pytest.raises(DataError, match=r"precious.txt.* delete"):
        load_data(path, cache)
    assert cache.read_text() == "precious"
    with pytest.raises(DataError, match="No such file"):
        load_data(tmp_path / "absent.pkl", cache)


@pytest.mark.skipif(not REAL.exists(), reason=f"the real file {REAL.name} is not beside the repository")
def test_real_mosi_through_the_cache(tmp_path):
    first = load_data(REAL, tmp_path / "cache.safetensors")
    equal_splits(load_data(REAL, tmp_path / "cache.safetensors"), first)


# --- what an item is ---


def test_an_item_is_the_sample_at_its_own_length(synthetic):
    split = synthetic.splits["train"]
    data = dataset(synthetic)
    for i in range(len(data)):
        item = data[i]
        assert item["index"] == i
        assert item["labels"] == split.labels[i].item()
        assert item["inputs"]["text"].tolist() == synthetic.tokenizer(split.text[i])["input_ids"]
        for m in ("audio", "vision"):
            torch.testing.assert_close(item["inputs"][m], split.features[m][i, : split.lengths[m][i]])
        for m in MODALITIES:
            assert item["masks"][m].dtype == item["keep"][m].dtype == torch.bool
            assert item["masks"][m].shape == item["keep"][m].shape == item["inputs"][m].shape[:1]
            assert item["masks"][m].all()
    assert data[-1]["index"] == len(data) - 1
    with pytest.raises(IndexError):
        data[len(data)]


def test_a_modality_of_length_zero_keeps_one_masked_frame_of_zeros(synthetic):
    split = Split(**fields(text=["", "two"]))
    data = dataset(synthetic, split, modalities=("text", "audio"), rate=0.0)
    item = data[0]
    assert item["inputs"]["audio"].tolist() == [[0.0] * 4]
    assert item["masks"]["audio"].tolist() == item["keep"]["audio"].tolist() == [False]
    bare = PreTrainedTokenizerFast(tokenizer_object=synthetic.tokenizer.backend_tokenizer.from_str(BARE))
    item = MissingDataset(split, bare, max_lengths=MAX_LENGTHS, modalities=["text"], seed=0)[0]
    assert item["inputs"]["text"].tolist() == [0]
    assert item["inputs"]["text"].dtype == torch.int64
    assert item["masks"]["text"].tolist() == [False]


BARE = """{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
"pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
"model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "two": 1}, "unk_token": "[UNK]"}}"""


def test_text_is_truncated_and_frames_are_not(synthetic):
    data = dataset(synthetic, max_lengths=MAX_LENGTHS | {"text": 6})
    assert {len(item["inputs"]["text"]) for item in data} == {6}
    longest = synthetic.splits["train"].lengths["vision"]
    with pytest.raises(DataError, match=r"max_lengths\['vision'\] = 5 .* in row \d+; cut them to that number"):
        dataset(synthetic, max_lengths=MAX_LENGTHS | {"vision": 5})
    dataset(synthetic, max_lengths=MAX_LENGTHS | {"vision": int(longest.max())})


def test_only_the_modalities_asked_for_are_served(synthetic):
    data = dataset(synthetic, modalities=("vision",), max_lengths={"vision": 30})
    assert set(data[0]["inputs"]) == set(data[0]["keep"]) == {"vision"}


# --- what goes missing ---


@pytest.mark.parametrize("split", ["train", "test"])
def test_training_corrupts_exactly_half_of_an_epoch(synthetic, split):
    data = dataset(synthetic, split)
    halves = []
    for epoch in range(30):
        data.set_epoch(epoch)
        corrupted = data._corrupted_names("audio")
        assert len(corrupted) == len(data) // 2
        for i, item in enumerate(data):
            assert data._names[i] in corrupted or not any(sum(rows) for rows in lost(item).values())
        halves.append(corrupted)
    assert len(set(halves)) == 30
    often = [sum(name in half for half in halves) for name in data._names]
    assert min(often) > 3
    assert max(often) < 27


def test_training_rates_are_uniform_and_each_modality_has_its_own():
    frames = 2000
    split = Split(
        [str(i) for i in range(400)],
        None,
        {m: torch.zeros(400, frames, 1) for m in ("a", "b")},
        {m: torch.full((400,), frames) for m in ("a", "b")},
        torch.zeros(400),
    )
    data = MissingDataset(split, None, max_lengths={"a": frames, "b": frames}, modalities="ab", seed=3)
    rates = np.array([[1 - item["keep"][m].float().mean().item() for m in "ab"] for item in data])
    rates = rates[(rates > 0).any(1)]
    assert len(rates) == 200
    for column in rates.T:
        deciles = np.histogram(column, 10, (0, 1))[0]
        assert deciles.min() >= 8  # 20 expected; P(fewer than 8) is about 1e-3
    assert abs(np.corrcoef(rates.T)[0, 1]) < 0.2


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_corrupted_share_is_exact(synthetic, share):
    data = dataset(synthetic, corrupted_share=share)
    assert len(data._corrupted_names("audio")) == int(share * len(data))


def test_the_papers_samples_are_corrupted_in_every_modality_and_lnlns_in_each_by_itself(synthetic):
    by_sample, by_modality = (dataset(synthetic, corrupt_by=word, train_rate=0.9) for word in ("sample", "modality"))
    for data in (by_sample, by_modality):
        names = {modality: data._corrupted_names(modality) for modality in data.modalities}
        assert {len(each) for each in names.values()} == {len(data) // 2}
        assert (len(set(names.values())) == 1) == (data is by_sample)
        for index, item in enumerate(data):
            for modality, mask in item["masks"].items():
                is_whole = torch.equal(item["keep"][modality], mask)
                assert is_whole or data._names[index] in names[modality]
        data.set_epoch(1)
        assert data._corrupted_names("audio") != names["audio"]


def test_a_training_rate_replaces_the_drawn_ones(synthetic):
    for rate, whole in ((0.0, True), (1.0, False)):
        for item in dataset(synthetic, corrupted_share=1.0, train_rate=rate):
            assert item["keep"]["audio"].equal(item["masks"]["audio"]) == whole
            assert item["keep"]["audio"].any() == whole
    nested = [dataset(synthetic, corrupted_share=1.0, train_rate=rate) for rate in (0.3, 0.6)]
    for milder, harsher in zip(*nested, strict=True):
        assert not (harsher["keep"]["audio"] & ~milder["keep"]["audio"]).any()


def test_training_on_a_mixture_draws_its_patterns_equally_often():
    split = Split(
        [str(i) for i in range(400)],
        None,
        {m: torch.zeros(400, 30, 1) for m in ("a", "b", "c")},
        {m: torch.full((400,), 30) for m in ("a", "b", "c")},
        torch.zeros(400),
    )
    lengths = dict.fromkeys("abc", 30)
    data = MissingDataset(
        split, None, max_lengths=lengths, modalities="abc", seed=0, pattern="frames+modalities", corrupted_share=1.0
    )
    whole = 0
    for item in data:
        shares = [item["keep"][m].float().mean().item() for m in "abc"]
        whole += set(shares) <= {0.0, 1.0}
        assert sum(shares) > 0 or set(shares) > {0.0}
    # half of them lose whole modalities or nothing at all; frames alone rarely do (rates beyond 0.9 or below 0.1)
    assert 170 < whole < 240


@pytest.mark.parametrize("pattern", PATTERNS)
def test_evaluation_by_a_pattern_loses_its_rate(synthetic, pattern):
    data = dataset(synthetic, pattern=pattern, rate=0.5)
    lengths = [sum(m.sum().item() for m in item["masks"].values()) for item in data]
    kept = [sum(m.sum().item() for m in item["keep"].values()) for item in data]
    assert abs(sum(kept) / sum(lengths) - 0.5) < 0.15  # "modalities" keeps one: it loses 0.5 - 0.125
    again = dataset(synthetic, pattern=pattern, rate=0.5)
    assert all(same(data[i], again[i]) for i in range(len(data)))


def drop_end(mask, rate, *, generator=None):
    return mask & (mask.cumsum(1) <= ((1 - rate) * mask.sum(1)).round()[:, None])


def test_a_registered_pattern_is_served_alone_and_in_a_mixture(synthetic):
    register_pattern("end", drop_end)
    for item in dataset(synthetic, "test", pattern="end", rate=0.5):
        for kept in item["keep"].values():
            left = round(0.5 * len(kept))
            assert kept[:left].all()
            assert not kept[left:].any()
    trained = [dataset(synthetic, pattern=pattern, corrupted_share=1.0) for pattern in ("end", "frames+end", "frames")]
    for end, either, frames in zip(*trained, strict=True):
        shares = {round(kept.float().mean().item(), 2) for kept in end["keep"].values()}
        assert len(shares) > 1  # a rate per modality
        assert same(either, end) or same(either, frames)
    by_end = sum(same(either, end) for end, either, _ in zip(*trained, strict=True))
    assert 8 < by_end < 32  # of 40


def test_a_registered_pattern_across_modalities_has_one_rate(synthetic):
    seen = []

    def drop_nothing(masks, rate, *, generator=None):
        seen.append((tuple(masks), rate.shape))
        return masks

    register_pattern("nothing", drop_nothing, across=True)
    data = dataset(synthetic, pattern="nothing", corrupted_share=1.0)
    assert all(same(item, {"keep": item["masks"]}) for item in data)
    assert set(seen) == {(MODALITIES, (1,))}


def test_lengths_are_those_of_the_masks(synthetic):
    data = dataset(synthetic)
    assert sum(data.lengths().values()).tolist() == [sum(int(m.sum()) for m in item["masks"].values()) for item in data]


def test_set_epoch_draws_anew_and_again(synthetic):
    data, fresh = dataset(synthetic), dataset(synthetic)
    items = {}
    for epoch in (0, 1, 2, 1, 0):
        data.set_epoch(epoch)
        fresh.set_epoch(epoch)
        now = [lost(item) for item in data]
        assert now == [lost(item) for item in fresh]
        assert items.setdefault(epoch, now) == now
    for first, second in itertools.combinations(items.values(), 2):
        both = [(a, b) for a, b in zip(first, second, strict=True) if any(a["vision"]) and any(b["vision"])]
        assert len(both) > 3
        assert all(a != b for a, b in both)  # not only which samples lose frames, but which frames


def test_the_seed_decides_which_samples_and_which_frames(synthetic):
    first, second = dataset(synthetic, seed=0), dataset(synthetic, seed=1)
    assert first._corrupted_names("audio") != second._corrupted_names("audio")
    first, second = dataset(synthetic, seed=0, rate=0.5), dataset(synthetic, seed=1, rate=0.5)
    assert [lost(item) for item in first] != [lost(item) for item in second]


def test_a_fate_is_the_same_in_every_process():
    split = Split(["a"], None, {"audio": torch.zeros(1, 24, 1)}, {"audio": torch.tensor([24])}, torch.zeros(1))
    data = MissingDataset(split, None, max_lengths={"audio": 24}, modalities=["audio"], seed=0, rate=0.5)
    assert "".join(str(int(kept)) for kept in data[0]["keep"]["audio"]) == "010000111110111011111010"


FATES = {  # of three samples with 8 and 6 frames, at rate 0.5 and in training: stored results depend on these draws
    "frames": ("11100010010000 11101011001101 10011101101111", "11101101000100 00001101000000 00000000000110"),
    "bursts": ("11111011011000 11101111001111 11111101111111", "11111111000110 00000101000000 00000000000111"),
    "block": ("11100001100011 11100001100011 11110000111000", "11111110100001 00000111000000 00000001100011"),
    "modalities": ("11111111111111 11111111000000 11111111000000", "00000000111111 11111111111111 11111111111111"),
    "together": ("11110000111000 10000111100011 11000011110001", "00000011000001 11111011111101 11111100111110"),
    "unequal": ("11111111000000 11111111000000 11111111000000", "00000000100111 11111111101101 11111111100111"),
    "frames+modalities": (
        "11111111111111 11101011001101 00000000111111",
        "00000000111111 00001101000000 11111111111111",
    ),
}


@pytest.mark.parametrize("pattern", FATES)
def test_the_draws_of_every_pattern_stay_what_they_are(pattern):
    lengths = {"vision": 8, "audio": 6}
    split = Split(
        ["a", "b", "c"],
        None,
        {m: torch.zeros(3, n, 1) for m, n in lengths.items()},
        {m: torch.full((3,), n) for m, n in lengths.items()},
        torch.zeros(3),
    )
    for mode, expected in zip(({"rate": 0.5}, {"corrupted_share": 1.0}), FATES[pattern], strict=True):
        data = MissingDataset(
            split, None, max_lengths=lengths, modalities=("vision", "audio"), seed=0, pattern=pattern, **mode
        )
        assert " ".join("".join(str(int(k)) for m in lengths for k in item["keep"][m]) for item in data) == expected


@pytest.mark.parametrize("mode", [{"rate": 0.4}, {}])
def test_order_and_subset_do_not_matter(synthetic, mode):
    split = synthetic.splits["train"]
    order = random.Random(0).sample(range(len(split)), len(split))
    data, shuffled = dataset(synthetic, split, **mode), dataset(synthetic, pick(split, order), **mode)
    for position, row in enumerate(order):
        assert same(data[row], shuffled[position])
    if mode:
        few = dataset(synthetic, pick(split, order[:5]), **mode)
        assert all(same(data[row], few[position]) for position, row in enumerate(order[:5]))
        alone = dataset(synthetic, split, modalities=("audio",), **mode)
        assert all(torch.equal(alone[i]["keep"]["audio"], data[i]["keep"]["audio"]) for i in range(5))
    subset = Subset(data, order[:5])
    assert all(same(data[row], subset[position]) for position, row in enumerate(order[:5]))


def test_samples_of_one_id_have_fates_of_their_own(synthetic):
    split = pick(synthetic.splits["train"], [3, 3, 3])
    keeps = [item["keep"]["vision"].tolist() for item in dataset(synthetic, split, rate=0.5)]
    assert keeps[0] == dataset(synthetic, rate=0.5)[3]["keep"]["vision"].tolist()
    assert len({tuple(keep) for keep in keeps}) == 3


def test_a_lower_rate_loses_a_subset_of_a_higher_one(synthetic):
    rates = [0.0, 0.1, 0.3, 0.5, 0.9, 1.0]
    levels = [dataset(synthetic, "test", rate=rate) for rate in rates]
    for items in zip(*levels, strict=True):
        for m in MODALITIES:
            for milder, harsher in itertools.pairwise(items):
                assert not (harsher["keep"][m] & ~milder["keep"][m]).any()
            assert torch.equal(items[0]["keep"][m], items[0]["masks"][m])
            assert not items[-1]["keep"][m].any()
    share = torch.cat([item["keep"][m] for item in levels[2] for m in MODALITIES]).float().mean()
    assert 0.65 < share < 0.75


def test_evaluation_ignores_the_epoch(synthetic):
    data = dataset(synthetic, "test", rate=0.5)
    before = [lost(item) for item in data]
    data.set_epoch(7)
    assert [lost(item) for item in data] == before


@pytest.mark.parametrize("available", [(), ("text",), ["audio", "vision"], set(MODALITIES)])
def test_only_available_modalities_survive(synthetic, available):
    for item in dataset(synthetic, "valid", available=available):
        for m in MODALITIES:
            assert torch.equal(item["keep"][m], item["masks"][m] & (m in available))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.1, "available": ("text",)}, "rate or available"),
        ({"corrupted_share": 1.1}, r"corrupted_share in \[0, 1\], got 1.1"),
        ({"pattern": "holes"}, r"expected pattern to be distinct names from .*, got 'holes'"),
        ({"rate": 1.5}, r"rate in \[0, 1\], got 1.5"),
        ({"rate": float("nan")}, r"rate in \[0, 1\]"),
        ({"available": ("smell",)}, r"names from \('text', 'audio', 'vision'\), got \('smell',\)"),
        ({"available": "text"}, "collection of names"),
        ({"modalities": ("text", "smell")}, "expected modalities to be distinct names from"),
        ({"modalities": ()}, "expected modalities to be distinct names from"),
        ({"max_lengths": {"text": 50, "audio": 20}}, r"expected max_lengths .* add \('vision',\)"),
    ],
)
def test_arguments_that_do_not_fit(synthetic, arguments, message):
    with pytest.raises(ValueError, match=message):
        dataset(synthetic, **arguments)


# --- batches ---


def test_a_batch_is_padded_to_its_longest(synthetic):
    data = dataset(synthetic, rate=0.3)
    items = [data[i] for i in (5, 2, 9)]
    batch = Collator(pad_token_id=17)(items)
    assert set(batch) == {"inputs", "masks", "keep", "labels"}
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [item["labels"] for item in items]
    for m in MODALITIES:
        longest = max(len(item["masks"][m]) for item in items)
        assert batch["masks"][m].shape == batch["keep"][m].shape == (3, longest)
        assert batch["inputs"][m].shape[:2] == (3, longest)
        for row, item in enumerate(items):
            length = len(item["masks"][m])
            for key in ("inputs", "masks", "keep"):
                assert torch.equal(batch[key][m][row, :length], item[key][m])
            assert not batch["masks"][m][row, length:].any()
            assert not batch["keep"][m][row, length:].any()
            assert batch["inputs"][m][row, length:].eq(17 if m == "text" else 0).all()


def keep_by_row(loader):
    """What survived of every sample, by its label and words, which are distinct enough together."""
    rows = []
    for batch in loader:
        for i, label in enumerate(batch["labels"].tolist()):
            parts = [
                (batch["keep"][m][i].nonzero().flatten().tolist(), int(batch["masks"][m][i].sum())) for m in MODALITIES
            ]
            rows.append((label, str(parts)))
    return sorted(rows)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later
def test_batch_size_workers_and_shuffling_do_not_matter(synthetic):
    data, collate = dataset(synthetic), Collator(synthetic.tokenizer.pad_token_id)
    workers = DataLoader(
        data,
        7,
        shuffle=True,
        num_workers=2,
        collate_fn=collate,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    seen = []
    for epoch in range(3):  # persistent workers see the epoch change
        data.set_epoch(epoch)
        one_by_one = keep_by_row(DataLoader(data, 1, collate_fn=collate))
        assert keep_by_row(workers) == one_by_one
        assert keep_by_row(DataLoader(data, 64, collate_fn=collate)) == one_by_one
        seen.append(one_by_one)
    assert seen[0] != seen[1] != seen[2]


def test_dataset_and_collator_travel_to_another_process(synthetic):
    data, collate = pickle.loads(pickle.dumps((dataset(synthetic), Collator(3))))
    assert collate.pad_token_id == 3
    for epoch in (0, 4):
        data.set_epoch(epoch)
        here = dataset(synthetic)
        here.set_epoch(epoch)
        assert all(same(data[i], here[i]) for i in range(len(data)))
