"""Wrong command lines and inputs of every example command: code 2, one line on what would be right, nothing left.

The commands run in this process as they would by themselves, their last lines included.
"""

import json
import pickle
import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from derl.data.split import save_splits
from derl.data.synthetic import make_synthetic

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of inputs, most of them wrong."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "file").write_text("x")
    (folder / "empty").mkdir()
    (folder / "empty.pkl").write_bytes(b"")
    (folder / "keys.pkl").write_bytes(pickle.dumps({"train": {}}))
    (folder / "index").mkdir()
    (folder / "index" / "index.json").write_text("{}")
    configs = {
        "foreign": {"model_type": "bert", "architectures": ["BertModel"]},
        "broken": {"model_type": "derl", "architectures": ["DerlModel"], "dim": -3},
        "list": [1],
    }
    for name, content in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(content))
    save_file({"a": torch.zeros(2)}, folder / "foreign.safetensors")
    data = make_synthetic(sizes={"train": 4, "valid": 3, "test": 3}, max_lengths={"text": 20, "audio": 12, "vision": 9})
    save_splits(data.splits, folder / "whole.safetensors")
    save_splits({"valid": data.splits["valid"]}, folder / "part.safetensors")
    data.tokenizer.save_pretrained(folder / "encoder")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(data.tokenizer), **size)).save_pretrained(folder / "encoder")
    return folder


def forbidden(*args, **kwargs):
    raise AssertionError("a training began")


def run(name, arguments, capsys):
    """Run a command; return its exit code, and the lines of its errors without its usage."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():  # a command shows warnings in its own way
        patch.setattr(torch, "set_num_threads", lambda number: None)  # of this process
        patch.setattr("transformers.Trainer.train", forbidden)
        patch.setattr(sys, "argv", [f"{name}.py", *arguments])
        patch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    lines = capsys.readouterr().err.splitlines()
    usage = lines and lines[0].startswith("usage: ")
    return stopped.value.code, [line for line in lines if not usage or "error: " in line]


NEW = ("--output_dir", "new")
WRONG = {
    "derl_mosi": [
        (("--data", "empty.pkl", *NEW), "expected a pickle, found an empty file"),
        (("--data", "keys.pkl", *NEW), "split 'train': expected key 'id'"),
        (("--data", "empty", *NEW), "expected table.csv, Parquet, a Hugging Face data set or shards"),
        (("--data", "index", *NEW), "expected a folder that ShardWriter wrote, found KeyError: 'format'"),
        (("--data", "foreign.safetensors", *NEW), "expected splits written by save_splits"),
        (("--data", "part.safetensors", "--text_encoder", "encoder", *NEW), "expected the splits ('train', 'valid'"),
        (("--data", "", *NEW), "--data expected a path or a name, got ''; leave it out"),
        (("--output_dir", ""), "--output_dir expected a path or a name, got ''"),
        (("--output_dir", "file"), "expected a new or empty folder"),
        (("--output_dir", "file/new"), "expected a folder that can be written"),
        (("--text_encoder", "foreign", *NEW), "expected a folder or a model on the Hugging Face Hub"),
        (("--resume", "file"), "expected the folder of a run"),
        (("--resume", "foreign"), "expected the folder of a run"),
        (("--evaluate", "empty"), "expected the folder of a run"),
        (("--resume", "a", "--evaluate", "b"), "both name a run; give one"),
        (("--preset", "big", *NEW), "invalid choice: 'big'"),
        (("--recipe", "best", *NEW), "invalid choice: 'best'"),
        (("--batch_size", "0", *NEW), "--batch_size expected a finite number of at least 1, got 0"),
        (("--batch_size", "1.5", *NEW), "invalid int value: '1.5'"),
        (("--learning_rate", "nan", *NEW), "--learning_rate expected a finite number of at least 0, got nan"),
        (("--weight_decay", "inf", *NEW), "--weight_decay expected a finite number of at least 0, got inf"),
        (("--seed", "-1", *NEW), "--seed expected a finite number of at least 0, got -1"),
        (("--num_workers", "-1", *NEW), "--num_workers expected a finite number of at least 0, got -1"),
        (("--warmup", "2", *NEW), "--warmup expected numbers in [0, 1], got 2"),
        (
            ("--eval_pattern", "holes", *NEW),
            "--eval_pattern: parse_pattern expected pattern to be distinct names from",
        ),
        (("--num_private_experts", "0", "--num_shared_experts", "0", *NEW), "expected at least one expert in all"),
        (("--shade", "red", *NEW), "expected options that --help lists, got --shade red"),
        (("word", *NEW), "expected options that --help lists, got word"),
    ],
    "derl_shards": [
        ((), "one of the arguments --data --verify is required"),
        (("--data", "whole.safetensors"), "--data and --output_dir go together"),
        (("--data", "whole.safetensors", "--verify", "index"), "not allowed with argument"),
        (("--data", "empty", *NEW), "empty: expected table.csv, Parquet, a Hugging Face data set or shards"),
        (("--data", "foreign.safetensors", *NEW), "expected splits written by save_splits"),
        (("--data", "nowhere.safetensors", *NEW), "expected splits written by save_splits"),
        (("--data", "part.safetensors", *NEW), "expected the splits ('train', 'valid', 'test'), found ('valid',)"),
        (("--data", "whole.safetensors", "--output_dir", "empty"), "expected a new folder, found an existing one"),
        (("--data", "whole.safetensors", "--output_dir", "file/new"), "expected a place to write shards to"),
        (("--data", "whole.safetensors", *NEW, "--shard_megabytes", "-1"), "--shard_megabytes expected at least 1"),
        (("--data", "whole.safetensors", *NEW, "--shard_megabytes", "x"), "invalid int value: 'x'"),
        (("--verify", "nowhere"), "expected a folder that ShardWriter wrote"),
        (("--verify", "file"), "expected a folder that ShardWriter wrote"),
        (("--verify", "index"), "expected a folder that ShardWriter wrote"),
    ],
    "derl_predict": [
        ((), "the following arguments are required: MODEL"),
        (("empty", "--text", "a"), "expected the folder of a run or of its model"),
        (("file", "--text", "a"), "expected the folder of a run or of its model"),
        (("foreign", "--text", "a"), "expected a model of type 'derl', found 'bert'"),
        (("encoder", "--text", "a"), "expected a model of type 'derl', found 'bert'"),
        (("broken", "--text", "a"), "DerlConfig expected dim to be an int >= 1, got -3"),
        (("list", "--text", "a"), "expected a model that derl_mosi.py saved"),
    ],
    "derl_export": [
        ((), "the following arguments are required: MODEL, --to, OUT"),
        (("file", "--to", "torch", "new.pt2"), "expected the folder of a run or of its model"),
        (("foreign", "--to", "torch", "new.pt2"), "expected a model of type 'derl', found 'bert'"),
        (("broken", "--to", "torch", "new.pt2"), "DerlConfig expected dim to be an int >= 1, got -3"),
        (("list", "--to", "onnx", "new.onnx"), "expected a model that derl_mosi.py saved"),
        (("empty", "--to", "torch", "new.onnx"), "expected a name that ends in .pt2"),
        (("empty", "--to", "torch", "nowhere/new.pt2"), "expected a file in a folder that exists"),
        (("empty", "--to", "torch", "new.pt2", "--int8"), "--int8 expected --to onnx"),
    ],
    "derl_paper": [
        ((), "the following arguments are required: what"),
        (("table9",), "invalid choice: 'table9'"),
        (("table1", "--protocol", "best"), "invalid choice: 'best'"),
        (("table1", "--seeds", "-1"), "expected a whole number of at least 1, got '-1'"),
        (("table1", "--batch_size", "x"), "invalid int value: 'x'"),
        (("table1", "--learning_rate", "inf"), "--learning_rate expected a finite number of at least 0, got inf"),
        (("table1", "--study", ""), "--study expected a path or a name, got ''; leave it out"),
        (("table1", "--study", "file"), "expected a new or empty folder, or a study"),
        (("table1", "--study", "file/new"), "expected a folder that can be written"),
        (("table1", "--study", "foreign"), "expected a new or empty folder, or a study"),
        (("table1", "--study", "empty", "--report_only"), "expected the folder of a study"),
    ],
    "actions_mhad": [
        ((), "read_clips expected an .npz file or a folder of .mat files, found nothing at 'utd_mhad.npz'"),
        (("--data", "empty"), "read_clips expected files such as a1_s1_t1_inertial.mat in 'empty', found none"),
        (("--data", "file"), "read_clips expected an .npz file of arrays, could not read 'file'"),
        (("--epochs", "0"), "expected a whole number of at least 1, got '0'"),
        (("--learning_rate", "-1"), "expected a number above 0, got '-1'"),
        (("--out", "nowhere/new.jsonl"), "expected a file in a folder that exists, got 'nowhere/new.jsonl'"),
        (("--test", "--folds", "1"), "--test evaluates on the even subjects; leave out --folds and --quick"),
    ],
    "digits_views": [
        (("--epochs", "-3"), "expected a whole number of at least 1, got '-3'"),
        (("--out", "empty"), "expected a file in a folder that exists, got 'empty'"),
        (("--out", ""), "expected a file in a folder that exists, got ''"),
        (("--picture", "nowhere/new.png"), "expected a file in a folder that exists, got 'nowhere/new.png'"),
        (("--picture", "new.txt"), "expected a name that ends in one of "),
        (("--tune", "--picture", "new.png"), "--tune only prints; leave out --out and --picture"),
        (("--shade", "red"), "unrecognized arguments: --shade red"),
    ],
    "icu_mortality": [
        ((), "the following arguments are required: --data"),
        (("--data", "empty"), "empty has no Outcomes-*.txt with stays"),
        (("--data", "file"), "file is neither an .npz file nor a folder"),
        (("--data", "nowhere"), "nowhere does not exist"),
        (("--data", "empty", "--splits", "6"), "expected a number from 1 to 5, got '6'"),
        (("--data", "empty", "--models", "best"), "invalid choice: 'best'"),
        (("--data", "empty", "--epochs", "0"), "expected a whole number of at least 1, got '0'"),
        (("--data", "empty", "--out", "nowhere/icu.jsonl"), "expected a file in a folder that exists"),
        (("--data", "empty", "--out", "file"), "file, line 1: not a record of this example"),
        (("--data", "empty", "--tune", "--test"), "--tune reads validation stays only; leave out --test"),
    ],
}


@pytest.mark.parametrize(
    ("name", "arguments", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_a_wrong_input_is_one_clear_line(name, arguments, message, place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    code, lines = run(name, arguments, capsys)
    assert code == 2
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert "error: " in lines[0]
    assert sorted(place.rglob("*")) == before


def test_every_command_is_in_the_list():
    commands = {path.stem for path in EXAMPLES.glob("*.py")}
    commands -= {"arguments", "ending", "machine", "minimal"}  # none takes options
    commands -= {"derl_demo"}  # its page needs a browser to be judged
    assert set(WRONG) == commands
