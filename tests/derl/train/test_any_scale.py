"""Labels on any scale: only the presets of MOSI and MOSEI, and the synthetic data, assume [-3, 3]."""

import json
import pickle
import re
import sys

import numpy as np
import pytest
from huggingface_hub import ModelCard

import derl_mosi
import derl_predict
from derl import Predictor
from derl.demo.explorer import Explored
from derl.demo.html import score_html
from derl.evaluate.answer import Answer
from derl.evaluate.sentiment import SENTIMENT
from derl.predict.files import as_columns
from derl.predict.trust import Trust
from derl.report.tables import intervals_table, notes
from derl.train.options import Options

SIZES = {"train": 12, "valid": 12, "test": 8}  # intervals of 90 % need 9


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


def numbers(text):
    return [float(found) for found in re.findall(r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?:e[+-]\d+)?", text)]


@pytest.mark.parametrize(("step", "offset"), [(1e-4, 0), (1e-8, 0), (1e-3, 100), (1e6, 0)])
def test_figures_in_label_units_have_the_digits_that_tell_them_apart(run, tmp_path, monkeypatch, capsys, step, offset):
    code, _, errors = run(lambda row: step * row + offset, "--preset", "smoke")
    assert code == 0, errors
    results = json.loads((tmp_path / "run/results.json").read_text())
    level = results["intervals"]["levels"].index(0.9)
    widths = [row[level] for row in results["intervals"]["widths"]]
    assert [float(row[1]) for row in intervals_table(results).rows] == pytest.approx(widths, rel=0.005)
    assert numbers(notes(results)[1])[-1] == pytest.approx(results["checkpoint"]["value"], rel=0.005)
    assert numbers(notes(results)[2].partition("validation: ")[2])[0] == pytest.approx(min(widths), rel=0.005)
    card = ModelCard.load(tmp_path / "run/model/README.md").data.eval_results[0]
    assert card.metric_value == pytest.approx(results["intra_modal"]["rows"]["DERL"][0]["mae"], rel=0.005)

    frames = np.zeros((4, 2))
    answer = Predictor.from_pretrained(tmp_path / "run/model").predict(audio=frames)
    low, high = answer.interval
    near = {"rel": 0, "abs": 0.01 * (high - low)}
    np.save(tmp_path / "frames.npy", frames)
    said = ["derl_predict.py", str(tmp_path / "run"), "--audio", str(tmp_path / "frames.npy")]
    monkeypatch.setattr(sys, "argv", said)
    capsys.readouterr()
    assert derl_predict.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert numbers(lines[0]) == pytest.approx([answer.score], **near)
    assert numbers(lines[1].partition("interval")[2]) == pytest.approx([low, high], **near)
    page = score_html(Explored(answer, answer, {}, {}, None, ()))
    shown = dict(re.findall(r'data-figure="([^"]+)">([^<]*)<', page))
    assert numbers(shown["score"]) == pytest.approx([answer.score], **near)
    assert numbers(shown["90 % interval"]) == pytest.approx([low, high], **near)
    columns = as_columns(answer, Trust())
    assert [columns["score"], columns["low"], columns["high"]] == pytest.approx([answer.score, low, high], rel=1e-8)


def test_figures_of_sentiment_keep_their_decimals():
    answer = Answer(0.12345678, None, "neutral", 0, interval=(-1.23456789, 1.5))
    assert as_columns(answer, Trust()) == {
        "score": 0.123457,
        "class": 0,
        "class_name": "neutral",
        "low": -1.234568,
        "high": 1.5,
    }
    assert "-1.23 to +1.50" in score_html(Explored(answer, answer, {}, {}, None, ()))
    assert derl_predict.describe(answer, Trust()).splitlines() == [
        "score +0.123: neutral (class +0 of -3 to +3)",
        "90 % interval -1.235 to +1.500",
    ]
    assert (SENTIMENT.width(2.7), SENTIMENT.width(float("inf"))) == ("2.70", "unbounded")
