"""What is wrong is refused before training, in one line, with something to do about it."""

import json
import pickle
import re
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, T5Config, T5Model

import derl_mosi
from derl import DerlConfig, Predictor
from derl.data.shard_writer import ShardWriter
from derl.data.split import DataError, Split, load_splits, save_splits
from derl.data.synthetic import make_synthetic

HALF = "great \ud83d ship"
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def made():
    return make_synthetic(3, {"train": 12, "valid": 8, "test": 8}, {"text": 12, "audio": 8, "vision": 6})


def encoders(vocabulary):
    t5 = T5Config(vocab_size=vocabulary, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    text = SMALL | {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1}
    vision = SMALL | {"image_size": 8, "patch_size": 4}
    return {
        "bert": lambda: BertModel(BertConfig(vocab_size=vocabulary, max_position_embeddings=64, **SMALL)),
        "short": lambda: BertModel(BertConfig(vocab_size=vocabulary, max_position_embeddings=32, **SMALL)),
        "few words": lambda: BertModel(BertConfig(vocab_size=vocabulary - 1, max_position_embeddings=64, **SMALL)),
        "T5": lambda: T5Model(t5),
        "CLIP": lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=vision)),
    }


@pytest.fixture
def run(made, tmp_path, capsys, monkeypatch):
    """Runs the command on changed data; returns the exit code, what it printed, and its errors."""

    def command(change=lambda content: None, encoder="bert", **options):
        folder = tmp_path / "encoder"
        made.tokenizer.save_pretrained(folder)
        encoders(len(made.tokenizer))[encoder]().save_pretrained(folder)
        content = {
            name: {
                "raw_text": list(split.text),
                "id": list(split.ids),
                "regression_labels": split.labels.numpy(),
                "audio": split.features["audio"].numpy().copy(),
                "audio_lengths": split.lengths["audio"].tolist(),
            }
            for name, split in made.splits.items()
        }
        change(content)
        path = tmp_path / "data.pkl"
        path.write_bytes(pickle.dumps(content))
        arguments = ["--data", str(path), "--text_encoder", str(folder), "--preset", "smoke", "--epochs", "1"]
        monkeypatch.setattr(sys, "argv", ["derl_mosi.py", *arguments, "--output_dir", str(tmp_path / "run")])
        capsys.readouterr()
        return derl_mosi.main(), *capsys.readouterr()

    return command


def longer(content):
    content["test"]["audio"] = np.ones((8, 11, 5), np.float32)
    content["test"]["audio_lengths"] = [8, 8, 8, 11, 8, 8, 8, 8]


def half(split):
    def change(content):
        content[split]["raw_text"][2] = HALF

    return change


def silent(content):
    content["train"]["audio_lengths"] = [0] * 12


def wordless(content):
    content["train"]["raw_text"] = [""] * 12


REFUSED = {
    "test longer than training": (longer, "bert", "at most 8 frames of audio in test, .* found 11 in row 3; cut them"),
    "half an emoji in test": (
        half("test"),
        "bert",
        "split 'test': .*text in row 2 .*half a character.*; repair it",
    ),
    "half an emoji in valid": (half("valid"), "bert", "split 'valid': .*text in row 2 .*half a character.*; repair it"),
    "no audio in training": (
        silent,
        "bert",
        "expected audio in at least one training sample, found it in none",
    ),
    "no text in training": (
        wordless,
        "bert",
        "expected text in at least one training sample, found it in none",
    ),
    "T5": (
        lambda content: None,
        "T5",
        "such as BERT that reads 50 tokens, found T5Model with .*; name",
    ),
    "CLIP": (lambda content: None, "CLIP", "such as BERT that reads 50 tokens, found CLIPModel with .*; name another"),
    "32 positions": (lambda content: None, "short", "reads 50 tokens, found BertModel with 32 positions; name another"),
    "a small vocabulary": (lambda content: None, "few words", r"each of the tokenizer's \d+ tokens, found \d+; name a"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_before_training_in_one_line(run, tmp_path, case):
    change, encoder, message = REFUSED[case]
    code, said, errors = run(change, encoder)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in errors
    assert "training DERL" not in said
    assert not (tmp_path / "run").exists()


EVEN = torch.ones(5, 3)
UNOBSERVED = {
    "texts that are empty": ("text", {"text": ""}, ()),
    "texts of special tokens": ("text", {"text": "[PAD] [SEP]"}, ()),
    "samples without frames": ("audio", {"features": {"audio": EVEN[:0]}}, ()),
    "frames of NaN": ("audio", {"features": {"audio": torch.nan * EVEN}}, ()),
    "frames that are all partly NaN": (
        "audio",
        {"features": {"audio": EVEN.where(EVEN.cumsum(1) > 1, torch.nan)}},
        ("--partly_missing", "mask"),
    ),
}


@pytest.mark.parametrize("case", UNOBSERVED)
def test_a_modality_that_training_never_shows_is_refused(tmp_path, monkeypatch, capsys, case):
    name, never, options = UNOBSERVED[case]
    with ShardWriter(tmp_path / "shards") as writer:
        for split in ("train", "valid", "test"):
            for row in range(6):
                sample = {"text": "so good", "features": {"audio": EVEN * row}}
                writer.add(split, f"{split} {row}", row, **(sample | (never if split == "train" else {})))
    command = ["derl_mosi.py", "--data", str(tmp_path / "shards"), "--preset", "own", "--text_encoder", "words"]
    monkeypatch.setattr(sys, "argv", [*command, "--epochs", "1", "--output_dir", str(tmp_path / "run"), *options])
    assert derl_mosi.main() == 2
    said, errors = capsys.readouterr()
    assert errors.splitlines() == [
        f"error: shards: expected {name} in at least one training sample, found it in none; leave its column, or key, "
        "out of the data."
    ]
    assert "training DERL" not in said
    assert not (tmp_path / "run").exists()


def test_text_longer_than_trainings_longest_is_said_to_be_cut_in_every_command(tmp_path, monkeypatch, capsys):
    with ShardWriter(tmp_path / "shards") as writer:
        for split, words in (("train", 3), ("valid", 3), ("test", 40)):
            for row in range(6):
                writer.add(split, f"{split} {row}", row, text=" ".join(["good"] * (words if row % 2 else 2)))
    command = ["derl_mosi.py", "--data", str(tmp_path / "shards"), "--preset", "own", "--text_encoder", "words"]
    again = ["derl_mosi.py", "--evaluate", str(tmp_path / "run")]
    for words in ([*command, "--epochs", "1", "--output_dir", str(tmp_path / "run")], again):
        monkeypatch.setattr(sys, "argv", words)
        assert derl_mosi.main() == 0
        said = " ".join(capsys.readouterr().out.split())
        assert (
            "test: text was cut to its first 5 tokens, the model's maximum, in 3 of 6 samples; the longest had 42"
        ) in said
        assert "train: text was cut" not in said
        assert "valid: text was cut" not in said


def test_half_an_emoji_is_named_wherever_it_comes_in(tmp_path, smoke_run):
    with pytest.raises(DataError, match="predict expected text to be text that UTF-8 can encode, found half"):
        Predictor.from_pretrained(smoke_run / "model").predict(text=HALF)
    with (
        pytest.raises(DataError, match="ShardWriter expected text of 'a' to be text that UTF-8 can encode"),
        ShardWriter(tmp_path / "new") as writer,
    ):
        writer.add("train", "a", 0.0, text=HALF)


def test_an_evaluation_reads_the_runs_copy_when_the_pickle_has_moved(run, tmp_path, monkeypatch, capsys):
    assert run()[0] == 0
    before = json.loads((tmp_path / "run/results.json").read_text())
    (tmp_path / "data.pkl").unlink()
    monkeypatch.setattr(sys, "argv", ["derl_mosi.py", "--evaluate", str(tmp_path / "run")])
    assert derl_mosi.main() == 0
    assert "data.pkl is not there any more" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "run/results.json").read_text())["intra_modal"] == before["intra_modal"]


def test_numbers_of_numpy_in_a_configuration_are_saved(tmp_path):
    config = DerlConfig.smoke(
        dim=np.int64(16),
        modalities=["audio"],
        input_dims={"audio": np.int32(5)},
        max_lengths={"audio": np.int64(9)},
        special_token_ids=[np.int64(3)],
        orthogonality_weight=np.float32(0.5),
    )
    config.save_pretrained(tmp_path)
    loaded = DerlConfig.from_pretrained(tmp_path)
    assert (loaded.dim, loaded.input_dims, loaded.special_token_ids) == (16, {"audio": 5}, [3])
    assert type(config.orthogonality_weight) is float


def test_tensors_may_be_shared_between_modalities_and_splits(tmp_path):
    lengths, labels = torch.tensor([3, 2]), torch.zeros(2)
    both = torch.ones(4, 3, 2)
    split = Split(
        ["a", "b"], None, {"audio": both[:2], "vision": both[2:]}, {"audio": lengths, "vision": lengths}, labels
    )
    save_splits({"train": split, "valid": split, "test": split}, tmp_path / "data.safetensors")
    loaded = load_splits(tmp_path / "data.safetensors")
    assert loaded["test"].lengths["vision"].tolist() == [3, 2]
    assert torch.equal(loaded["valid"].features["vision"], both[2:])
