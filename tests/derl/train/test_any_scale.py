"""Labels on any scale: only the presets of MOSI and MOSEI, and the synthetic data, assume [-3, 3]."""

import json
import pickle
import sys

import numpy as np
import pytest

import derl_mosi
from derl import Predictor
from derl.train.options import Options

SIZES = {"train": 12, "valid": 6, "test": 8}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command on a pickle whose labels a function of the row gives; return its code, output and errors."""

    def command(label, *options):
        draw, content = np.random.default_rng(0), {}
        for name, rows in SIZES.items():
            content[name] = {
                "id": [f"{name} {row}" for row in range(rows)],
                "regression_labels": [float(label(row)) for row in range(rows)],
                "audio": draw.standard_normal((rows, 5, 2)),
            }
        (tmp_path / "data.pkl").write_bytes(pickle.dumps(content))
        arguments = ["--data", str(tmp_path / "data.pkl"), "--epochs", "1", "--output_dir", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["derl_mosi.py", *arguments, *options])
        return derl_mosi.main(), *capsys.readouterr()

    return command


def test_a_pickle_of_numbers_on_another_scale_is_trained_reported_and_asked(run, tmp_path):
    code, said, errors = run(lambda row: 10 * row + 100, "--preset", "smoke")
    assert code == 0, errors
    assert "Acc-7" not in said
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["task"] == "regression"
    assert {"mae", "rmse", "corr", "r2"} == results["intra_modal"]["rows"]["DERL"][0].keys()
    answer = Predictor.from_pretrained(tmp_path / "run/model").predict(audio=np.zeros((4, 2)))
    assert answer.score > 50
    assert answer.sentiment is answer.name is None


def test_a_pickle_of_classes_is_trained_and_its_labels_are_no_sentiment(run, tmp_path):
    code, said, errors = run(lambda row: row % 6, "--preset", "smoke", "--task", "classify")
    assert code == 0, errors
    assert "negative/zero/positive" not in said
    assert json.loads((tmp_path / "run/results.json").read_text())["classes"] == [str(name) for name in range(6)]


def test_the_preset_of_a_data_set_of_sentiment_refuses_other_labels_before_training(run, tmp_path):
    code, said, errors = run(lambda row: 3.5 if row == 7 else 0)
    assert code == 2
    assert "train: expected labels of sentiment, in [-3, 3], for --preset mosi, found 3.5 in row 7; " in errors
    assert "give --preset own for numbers on any scale" in errors
    assert "training DERL" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "sentiment"),
    [
        ({"preset": "mosi", "data": "a.pkl"}, True),
        ({"preset": "mosei", "data": "shards"}, True),
        ({"preset": "smoke"}, True),
        ({"preset": "smoke", "data": "a.pkl"}, False),
        ({"preset": "own", "data": "a.pkl"}, False),
        ({"preset": "mosi", "data": "a.pkl", "task": "classify"}, False),
    ],
)
def test_the_preset_decides_whether_labels_are_sentiment(options, sentiment):
    assert Options(**options).sentiment is sentiment
