"""A heart rate in the data file, from the pickle to a score: read, trained on, saved, asked, and missed."""

import pickle
import sys

import numpy as np
import pytest
import torch

import derl_shards
from derl import Predictor
from derl.data.load import load_data
from derl.train.fit import fit, open_trainer
from derl.train.options import parse
from derl.train.run import RunFolder
from derl.train.setup import Setup

SIZES = {"train": 24, "valid": 8, "test": 8}
NAMES = ("audio", "vision", "heart")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A pickle whose label shows in the heart rate alone."""
    draw, content = np.random.default_rng(0), {}
    for name, rows in SIZES.items():
        labels = draw.uniform(-3, 3, rows)
        beats = labels[:, None, None] + 0.1 * draw.standard_normal((rows, 6, 1))
        content[name] = {
            "id": [f"{name} {row}" for row in range(rows)],
            "regression_labels": labels,
            "audio": draw.standard_normal((rows, 5, 2)),
            "vision": draw.standard_normal((rows, 4, 3)),
            "heart": beats,
            "heart_lengths": draw.integers(2, 7, rows).tolist(),
            "classification_labels": np.zeros(rows),
        }
    path = tmp_path_factory.mktemp("data") / "heart.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def train(data, folder, *more):
    options = ("--preset", "smoke", "--epochs", "15", "--batch_size", "12", "--learning_rate", "0.02")
    asked = parse(["--data", str(data), *options, *more, "--output_dir", str(folder)])
    with RunFolder.open(asked) as (run, resolved):
        setup = Setup.build(resolved, run)
        fit(open_trainer(setup, run), setup, run)
    return setup, Predictor.from_pretrained(folder / "model")


def test_a_fourth_modality_is_trained_on_and_asked(data, tmp_path, capsys):
    setup, predictor = train(data, tmp_path / "run", "--select_rates", "0.0")
    assert "left out: classification_labels, not an array" in capsys.readouterr().out
    assert predictor.modalities == NAMES
    assert {key for key in predictor.model.state_dict() if "heart" in key}
    test = setup.splits["test"]
    beats = [test.features["heart"][row, : int(test.lengths["heart"][row])] for row in range(len(test))]
    answers = predictor.predict(heart=beats)
    assert all(answer.weights == {"audio": 0.0, "vision": 0.0, "heart": 1.0} for answer in answers)
    scores = torch.tensor([answer.score for answer in answers])
    assert torch.corrcoef(torch.stack([scores, test.labels]))[0, 1] > 0.8  # nothing else tells the label
    assert predictor.predict(audio=np.zeros((5, 2))).weights["heart"] == 0


def test_shards_hold_it_too(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["derl_shards.py", "--data", str(data), "--output_dir", str(tmp_path / "shards")])
    assert derl_shards.main() == 0
    assert "left out: classification_labels, not an array" in capsys.readouterr().out
    split, expected = load_data(tmp_path / "shards", "")["test"], load_data(data, tmp_path / "cache")["test"]
    assert split.modalities == expected.modalities == NAMES
    for row in range(len(split)):
        beats = expected.features["heart"][row, : int(expected.lengths["heart"][row])]
        torch.testing.assert_close(split.features["heart"][row], beats, rtol=0, atol=0)
