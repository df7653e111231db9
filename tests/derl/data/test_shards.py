"""Shards give what was written, one sample at a time, or say what is wrong with them."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

import derl_mosi
import derl_shards
from derl.data.absence import describe_missing
from derl.data.missing import MissingDataset
from derl.data.shard_writer import ShardWriter
from derl.data.shards import INDEX, open_shards
from derl.data.split import DataError, save_splits
from derl.data.synthetic import make_synthetic
from derl.data.table import Table

SIZES = {"train": 21, "valid": 9, "test": 10}
LENGTHS = {"text": 20, "audio": 12, "vision": 9}


@pytest.fixture(scope="module")
def synthetic():
    return make_synthetic(sizes=SIZES, max_lengths=LENGTHS)


@pytest.fixture
def folder(synthetic, tmp_path):
    """Several shards a split."""
    return write(synthetic, tmp_path / "data")


def write(synthetic, folder, shard_bytes=4000):
    limits = {name: frames.shape[1] for name, frames in synthetic.splits["train"].features.items()}
    with ShardWriter(folder, max_lengths=limits, shard_bytes=shard_bytes) as writer:
        for name, split in synthetic.splits.items():
            derl_shards.write(writer, name, split)
    return folder


def test_a_split_comes_back_as_it_was(synthetic, folder):
    assert len(list(folder.glob("train-*.safetensors"))) > 2
    for name, split in open_shards(folder).items():
        own = synthetic.splits[name]
        assert split.ids == own.ids
        assert list(split.text) == own.text
        assert split.text[-1] == own.text[-1]
        assert torch.equal(split.labels, own.labels)
        assert split.modalities == own.modalities
        for modality, frames in own.features.items():
            assert torch.equal(split.lengths[modality], own.lengths[modality])
            assert split.features[modality].shape == frames.shape
            for row in range(len(own)):
                assert torch.equal(split.features[modality][row], frames[row, : own.lengths[modality][row]])


def test_items_are_those_of_a_split_in_memory(synthetic, folder):
    def items(split):
        dataset = MissingDataset(
            split, synthetic.tokenizer, max_lengths=LENGTHS, modalities=split.modalities, seed=0, rate=0.5
        )
        assert {name: len(lengths) for name, lengths in dataset.lengths().items()} == dict.fromkeys(LENGTHS, len(split))
        return [dataset[index] for index in range(len(dataset))]

    for ours, theirs in zip(items(open_shards(folder)["test"]), items(synthetic.splits["test"]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_what_was_not_observed_survives_and_is_counted(tmp_path):
    holes = torch.ones(4, 5)
    holes[1], holes[2, 3] = torch.nan, torch.nan
    with ShardWriter(tmp_path / "data", shard_bytes=50) as writer:
        for name in ("train", "valid", "test"):
            writer.add(name, "a", 0.0, text="", features={"audio": torch.empty(0, 5)})
            writer.add(name, "b", 0.0, text="so", features={"audio": holes})
            writer.add(name, "c", 0.0, text="good", features={"audio": torch.full((2, 5), torch.nan)})
    split = open_shards(tmp_path / "data")["test"]
    torch.testing.assert_close(split.features["audio"][1], holes, rtol=0, atol=0, equal_nan=True)
    assert describe_missing({"test": split}) == [
        "test: text is absent in 1 of 3 samples",
        "test: audio is absent in 2 of 3 samples; in the others, 1 of 4 frames are absent, 1 values in 1 frames are "
        "missing (imputed by the training mean)",
    ]
    data = MissingDataset(split, None, max_lengths={"audio": 9}, modalities=["audio"], seed=0, rate=0.0)
    assert [item["masks"]["audio"].tolist() for item in data] == [[False], [True, False, True, True], [False, False]]


def test_empty_text_and_modalities_of_no_frame(tmp_path):
    with ShardWriter(tmp_path / "data") as writer:
        for name in SIZES:
            writer.add(name, "", 0.0, text="", features={"audio": torch.empty(0, 5)})
            writer.add(name, "é", -3, text="ça va", features={"audio": torch.ones(2, 5)})
    split = open_shards(tmp_path / "data")["valid"]
    assert (split.ids, list(split.text)) == (["", "é"], [None, "ça va"])
    assert [tuple(split.features["audio"][row].shape) for row in range(2)] == [(0, 5), (2, 5)]


def test_a_split_goes_to_another_process(folder):
    split = pickle.loads(pickle.dumps(open_shards(folder)["train"]))
    assert torch.equal(split.features["audio"][3], open_shards(folder)["train"].features["audio"][3])


@pytest.mark.slow
def test_reading_leaves_nothing_in_memory(tmp_path):
    with ShardWriter(tmp_path / "data", shard_bytes=2**22) as writer:
        for name, count in (("train", 400), ("valid", 1), ("test", 1)):
            for row in range(count):
                writer.add(name, str(row), 0.0, features={"audio": torch.full((400, 100), float(row))})
    code = f"""
import re
from pathlib import Path
from derl.data.shards import open_shards
def own():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
rows = open_shards({str(tmp_path / "data")!r})["train"].features["audio"]
rows[0].sum(), rows[399].sum()
before = own()
assert sum(float(rows[row].mean()) for row in range(400)) == 79800
print(own() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells a process's own memory from mapped files")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(derl_shards.__file__).parent, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 8  # of 61 MiB


@pytest.mark.slow
def test_a_run_gives_the_same_figures_bit_by_bit(synthetic, tmp_path, monkeypatch, capsys):
    save_splits(synthetic.splits, tmp_path / "data.safetensors")
    synthetic.tokenizer.save_pretrained(tmp_path / "encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(synthetic.tokenizer), **sizes)).save_pretrained(tmp_path / "encoder")
    arguments = ["--data", str(tmp_path / "data.safetensors"), "--output_dir", str(tmp_path / "shards")]
    monkeypatch.setattr(sys, "argv", ["derl_shards.py", *arguments])
    assert derl_shards.main() == 0
    assert "40 samples in 3 shards" in capsys.readouterr().out
    written = []
    for data, workers in (("data.safetensors", 0), ("shards", 2)):
        folder = tmp_path / f"run {data}"
        arguments = ["--data", str(tmp_path / data), "--text_encoder", str(tmp_path / "encoder")]
        arguments += ["--epochs", "2", "--batch_size", "8", "--num_workers", str(workers), "--output_dir", str(folder)]
        monkeypatch.setattr(sys, "argv", ["derl_mosi.py", *arguments])
        assert derl_mosi.main() == 0
        written.append((folder / "predictions.csv").read_bytes())
    assert written[0] == written[1]


def change_index(folder, **entries):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | entries))


def change_shard(folder, **tensors):
    path = folder / "train-00001.safetensors"
    save_file(load_file(path) | tensors, path, {"format": "derl-shards-1"})
    index = json.loads((folder / INDEX).read_text())
    index["splits"]["train"][1]["bytes"] = path.stat().st_size
    (folder / INDEX).write_text(json.dumps(index))


def truncate(folder):
    path = folder / "train-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def rename(folder, name):
    index = json.loads((folder / INDEX).read_text())
    index["splits"]["train"][0]["file"] = name
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / INDEX).unlink(), r"No such file"),
        (lambda folder: (folder / INDEX).write_text("{"), r"JSONDecodeError"),
        (lambda folder: (folder / INDEX).write_text("[]"), r"TypeError"),
        (lambda folder: change_index(folder, format="other"), r"format 'other', not 'derl-shards-1'"),
        (lambda folder: change_index(folder, widths={"audio": 7}), r"audio of shape .* ends say"),
        (lambda folder: change_index(folder, max_lengths={"audio": 1, "vision": 1}), r"frames in .*allows 1"),
        (lambda folder: (folder / "train-00001.safetensors").unlink(), r"train-00001\.safetensors"),
        (truncate, r"train-00001\.safetensors of \d+ bytes, index\.json says \d+"),
        (lambda folder: rename(folder, "../elsewhere.safetensors"), r"the name '\.\./elsewhere\.safetensors'"),
        (lambda folder: change_shard(folder, labels=torch.zeros(1)), r"labels of shape \(1,\)"),
        (lambda folder: change_shard(folder, audio=torch.zeros(3, 5)), r"audio of shape \(3, 5\)"),
        (lambda folder: change_shard(folder, audio_ends=torch.tensor([-1])), r"audio of shape"),
        (
            lambda folder: change_shard(
                folder, labels=load_file(folder / "train-00001.safetensors")["labels"] * float("nan")
            ),
            r"finite labels",
        ),
    ],
)
def test_damage_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(
        DataError, match=rf"(?s){re.escape(str(folder))}: expected a folder .*{message}.*write it again"
    ):
        open_shards(folder)


def test_infinity_is_named_when_it_is_read(folder):
    path = folder / "train-00000.safetensors"
    tensors = load_file(path)
    tensors["audio"][0, 0] = float("inf")
    save_file(tensors, path, {"format": "derl-shards-1"})
    rows = open_shards(folder)["train"].features["audio"]
    with pytest.raises(DataError, match=r"audio in row 0 of .* without infinity"):
        rows[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, r"expected split to be one of"),
        ({"name": 3}, r"expected name and text to be str"),
        ({"label": float("nan")}, r"finite label of 'b'"),
        ({"text": None}, r"the same text and features in every sample"),
        ({"features": {"audio": torch.ones(2, 4)}}, r"the same text and features in every sample"),
        ({"features": {"type": torch.ones(2, 5)}}, r"'type'; rename that column or key"),
        ({"features": {"audio": torch.ones(2)}}, r"features as tensors \(T, D\)"),
        ({"features": {"audio": torch.full((2, 5), float("inf"))}}, r"audio of 'b' without infinity"),
        ({"features": {"audio": torch.ones(4, 5)}}, r"at most 3 frames of audio, got 4"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path, arguments, message):
    sample = {"split": "train", "name": "b", "label": 1.0, "text": "so", "features": {"audio": torch.ones(2, 5)}}

    def write_both():
        with ShardWriter(tmp_path / "data", max_lengths={"audio": 3}, shard_bytes=1) as writer:
            writer.add("train", "a", 1.0, text="good", features={"audio": torch.ones(3, 5)})
            writer.add(**sample | arguments)

    with pytest.raises(DataError, match=message):
        write_both()
    assert not list(tmp_path.iterdir())


def test_every_split_has_samples(tmp_path):
    with pytest.raises(DataError, match="got none of 'valid'"), ShardWriter(tmp_path / "data") as writer:
        writer.add("train", "a", 1.0, text="good")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DataError, match="expected a new folder"):
        ShardWriter(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_changed_byte_is_found(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["derl_shards.py", "--verify", str(folder)])
    assert derl_shards.main() == 0
    number = len(list(folder.glob("*.safetensors")))
    assert capsys.readouterr().out == f"{number} shards match their checksums: {folder}\n"
    path = folder / "valid-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert derl_shards.main() == 2
    assert re.search(r"valid-00000\.safetensors: expected sha256 \w+, found \w+; copy", capsys.readouterr().err)


def test_the_command_says_in_a_line_what_is_wrong(tmp_path, monkeypatch, capsys):
    arguments = ["--data", str(tmp_path / "nowhere.pkl"), "--output_dir", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", ["derl_shards.py", *arguments])
    assert derl_shards.main() == 2
    assert re.fullmatch(r"error: .*nowhere\.pkl.*\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_table_becomes_shards_that_hold_what_the_table_holds(tmp_path, monkeypatch, capsys, task):
    draw = np.random.default_rng(0)
    labels = ["no", "yes", "maybe"] if task == "classify" else ["1.5", "20", "-300"]
    lines = ["id,split,label,text,face"]
    for number in range(12):
        face = f"{number}.npy" if number % 4 else ""
        if face:
            np.save(tmp_path / face, draw.standard_normal((1 + number % 3, 2)))
        split = ("train", "train", "valid", "test")[number // 3]
        lines.append(f"clip{number},{split},{labels[number % 3]},{'so good' if number % 3 else ''},{face}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--data", str(tmp_path), "--task", task, "--output_dir", str(tmp_path / "shards")]
    monkeypatch.setattr(sys, "argv", ["derl_shards.py", *arguments])
    assert derl_shards.main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(r"11 samples in 3 shards", printed)
    assert "left out: 1 rows without any input" in printed
    table = Table(classify=task == "classify").read(tmp_path)
    for name, split in open_shards(tmp_path / "shards").items():
        assert (split.ids, split.classes, list(split.text)) == (table[name].ids, table[name].classes, table[name].text)
        assert split.missing() == table[name].missing()
        assert torch.equal(split.labels, table[name].labels)
        for row in range(len(split)):
            expected = table[name].features["face"][row, : table[name].lengths["face"][row]]
            assert torch.equal(split.features["face"][row], expected)


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [("yes", 0, "expected classes to be a list of names, got 'yes'"), ([1, 2], 0, "classes to be a list of names"),
     (["no", "yes"], 2, "expected the number of a class, 0 to 1, as label, got 2"),
     (["no", "yes"], 0.5, "expected the number of a class, 0 to 1, as label, got 0.5")],
)  # fmt: skip
def test_classes_that_do_not_fit_are_refused(tmp_path, classes, label, message):
    with pytest.raises(ValueError, match=message), ShardWriter(tmp_path / "new", classes=classes) as writer:
        writer.add("train", "a", label, text="b")
    assert not list(tmp_path.iterdir())
