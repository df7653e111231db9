"""The command that scores, as a user runs it."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import derl_predict
from derl import Predictor
from derl.evaluate.answer import Answer
from derl.evaluate.conformal import Calibration
from derl.predict.files import as_columns, write_answers
from derl.predict.trust import Trust


@pytest.fixture
def run(smoke_run, call):
    """Runs the command on the run's model; returns its exit code, output and errors."""

    def command(*arguments, model=smoke_run):
        return call(derl_predict.main, "derl_predict.py", *([str(model)] if model else []), *arguments)

    return command


@pytest.fixture
def predictor(smoke_run):
    return Predictor.from_pretrained(smoke_run / "model")


@pytest.fixture
def frames(tmp_path):
    """A file of frames for each modality, and what they hold."""
    rng = np.random.default_rng(0)
    arrays = {"audio": rng.standard_normal((9, 5)), "vision": rng.standard_normal((8, 20))}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return arrays


def test_one_sample_is_scored_from_what_is_given(run, predictor, frames, tmp_path):
    code, output, errors = run("--text", "great ship", "--audio", str(tmp_path / "audio.npy"))
    answer = predictor.predict(text="great ship", audio=frames["audio"])
    assert (code, errors) == (0, "")
    assert f"score {answer.score:+.3f}: {answer.name}" in output
    assert f"text {answer.weights['text']:.2f}, audio {answer.weights['audio']:.2f}, vision missing" in output


def test_a_csv_file_is_scored_row_by_row(run, predictor, frames, tmp_path, monkeypatch):
    monkeypatch.setattr("derl.predict.files.CHUNK", 2)
    (tmp_path / "in.csv").write_text(
        'id,text,audio,vision\n1,"great, lovely ship",audio.npy,vision.npy\n2,,audio.npy,\n3,awful ship,,\n',
        encoding="utf-8-sig",
    )
    code, output, _ = run("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))
    assert code == 0
    assert "3 samples scored" in output
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = predictor.predict(
        text=["great, lovely ship", None, "awful ship"],
        audio=[frames["audio"], frames["audio"], None],
        vision=[frames["vision"], None, None],
    )
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["text"] == "great, lovely ship"
    for row, answer in zip(rows, expected, strict=True):
        assert float(row["score"]) == pytest.approx(answer.score, abs=1e-5)
        assert (int(row["class"]), row["class_name"]) == (answer.sentiment, answer.name)
        for name, weight in answer.weights.items():
            assert float(row[f"weight_{name}"]) == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,audio\ngreat,vision.npy\n", r"line 2: predict expected audio of shape (frames, 5), got (8, 20)"),
        ("text,audio\ngreat,nowhere.npy\n", "nowhere.npy: expected an array in a .npy file, found No such file"),
        ("text,audio\ngreat,objects.npy\n", "pickled objects, which are never read"),
        ("text,audio\ngreat,in.csv\n", "in.csv: expected numbers below the header, found 'great' in frame 1"),
        ("text,audio\ngreat,clip.mp4\n", "clip.mp4: expected features of the video's frames"),
        ("text,audio\ngreat\n", "line 2: expected as many cells as the header has"),
        ("text,audio\ngreat,,,\n", "line 2: expected as many cells as the header has"),
        ("words\ngreat\n", "expected a header with some of ('text', 'audio', 'vision')"),
        ("text,text\ngreat,great\n", "expected every column once"),
        ("text,score\ngreat,1\n", "expected no column 'score'"),
        ("text\n", "expected rows below the header"),
        ("", "expected a header"),
        ("text\n\xff\n", "expected a CSV file in UTF-8"),
    ],
)
def test_a_csv_file_that_does_not_fit_is_one_line_and_writes_nothing(run, frames, tmp_path, content, message):
    (tmp_path / "in.csv").write_bytes(content.encode("latin-1"))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    before = sorted(tmp_path.iterdir())
    code, _, errors = run("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))
    assert code == 2
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one sample with --text, --audio, --vision, or many"),
        (["--text", "great", "--csv", "a", "--out", "b"], "give one sample"),
        (["--csv", "in.csv"], "--csv needs --out"),
        (["--csv", "nowhere.csv", "--out", "out.csv"], "nowhere.csv: expected a CSV file in UTF-8, found No such file"),
        (["--csv", "a.csv", "--out", "nowhere/out.csv"], "nowhere/out.csv: expected a folder to write to"),
        (["--text", "great", "--out", "out.txt"], "out.txt: expected a file that ends in .csv or .json; rename it"),
        (["--audio", "nowhere.npy"], "nowhere.npy: expected an array in a .npy file"),
        (["--smell", "a.npy"], "unrecognized arguments: --smell"),
    ],
)
def test_a_command_line_that_does_not_fit_says_what_would(run, arguments, message):
    code, _, errors = run(*arguments)
    assert code == 2
    assert message in errors


def test_the_input_is_never_overwritten(run, tmp_path):
    (tmp_path / "in.csv").write_text("text\ngreat\n")
    code, _, errors = run("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "in.csv"))
    assert (code, (tmp_path / "in.csv").read_text()) == (2, "text\ngreat\n")
    assert "expected another file than the input" in errors
    (tmp_path / "audio.csv").write_text("0,0,0,0,0\n")
    code, _, errors = run("--audio", str(tmp_path / "audio.csv"), "--out", str(tmp_path / "audio.csv"))
    assert (code, (tmp_path / "audio.csv").read_text()) == (2, "0,0,0,0,0\n")


def test_answers_are_written_for_programs(run, predictor, frames, tmp_path):
    (tmp_path / "in.csv").write_text("id,text,audio\na,great ship,audio.npy\nb,,audio.npy\n")
    answers = predictor.predict(text=["great ship", None], audio=[frames["audio"]] * 2)
    widths = [answer.interval[1] - answer.interval[0] for answer in answers]
    trust = ("--abstain", str(sum(widths) / 2), "--out", str(tmp_path / "out.json"))
    assert run("--csv", str(tmp_path / "in.csv"), *trust)[0] == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["id"] for row in rows] == ["a", "b"]
    for row, answer, width in zip(rows, answers, widths, strict=True):
        assert [row["low"], row["high"]] == pytest.approx(list(answer.interval), abs=1e-5)
        assert row["abstains"] is (width > sum(widths) / 2)
        assert (row["score"] is None) is (row["class"] is None) is row["abstains"]
    code, said, _ = run("--text", "great ship", "--audio", str(tmp_path / "audio.npy"), *trust)
    assert code == 0
    assert "90 % interval" in said
    (one,) = json.loads((tmp_path / "out.json").read_text())
    assert one == pytest.approx({name: value for name, value in rows[0].items() if name in one}, abs=1e-5)


def test_sets_and_unbounded_intervals_are_written_for_programs(tmp_path):
    likely = {"no": 0.25, "yes": 0.75}
    chosen = Answer(0.75, None, "yes", probabilities=likely, classes=("yes", "no"), abstains=True)
    columns = as_columns(chosen, Trust(Calibration({}, {}), abstain=1))
    write_answers([columns], tmp_path / "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row == {
        "class": None,
        "probability": None,
        "probability_no": 0.25,
        "probability_yes": 0.75,
        "classes": ["yes", "no"],
        "abstains": True,
    }
    write_answers([columns], tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["class"], row["classes"], row["abstains"]) == ("", "yes;no", "yes")
    unbounded = as_columns(Answer(1.0, None, interval=(-math.inf, math.inf)), Trust())
    assert unbounded == {"score": 1.0, "low": None, "high": None}


def test_a_model_that_cannot_be_read_is_one_line(run, smoke_run, tmp_path):
    code, _, errors = run("--text", "great", model=tmp_path)
    assert (code, errors.count("\n")) == (2, 1)
    assert "expected the folder of a run or of its model, found no config.json" in errors
    for path in (smoke_run / "model").iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ".safetensors" else content)
    code, _, errors = run("--text", "great", model=tmp_path)
    assert (code, errors.count("\n")) == (2, 1)
    assert "expected a model that derl_mosi.py saved, found SafetensorError" in errors


def test_help_needs_no_model(run):
    code, output, _ = run("--help", model=None)
    assert code == 0
    assert "--vision FILE" in output
    assert run("--text", "great", model=None)[0] == 2


def test_an_interval_stands_below_the_score(run, predictor):
    low, high = predictor.predict(text="great ship").interval
    assert f"\n90 % interval {low:+.3f} to {high:+.3f}\n" in run("--text", "great ship")[1]
    low, high = (
        Predictor.from_pretrained(predictor.model.name_or_path, confidence_level=0.5).predict(text="ship").interval
    )
    assert f"\n50 % interval {low:+.3f} to {high:+.3f}\n" in run("--text", "ship", "--confidence_level", "0.5")[1]
    output = run("--text", "great ship", "--confidence_level", "0.99")[1]
    assert "\n99 % interval unbounded: too few validation samples\n" in output


def test_no_score_is_printed_where_the_model_abstains(run):
    code, output, _ = run("--text", "great ship", "--abstain", "0.1")
    assert code == 0
    assert output.startswith("no answer: the 90 % interval, ")
    assert ", is wider than 0.1\n" in output
    assert "score" not in output
    assert max(map(len, output.splitlines())) <= 80
    assert run("--text", "great ship", "--abstain", "100")[1].startswith("score ")


def test_intervals_and_abstention_of_a_csv_file(run, predictor, frames, tmp_path):
    (tmp_path / "in.csv").write_text("text,audio\ngreat ship,audio.npy\n,audio.npy\n")
    answers = predictor.predict(text=["great ship", None], audio=[frames["audio"]] * 2)
    widths = [answer.interval[1] - answer.interval[0] for answer in answers]
    between = sum(widths) / 2
    files = ("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))
    assert run(*files, "--abstain", str(between))[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, answer, width in zip(rows, answers, widths, strict=True):
        assert (float(row["low"]), float(row["high"])) == pytest.approx(answer.interval, abs=1e-5)
        assert row["abstains"] == ("yes" if width > between else "no")
        assert (row["score"] == "") == (row["class"] == "") == (row["class_name"] == "") == (width > between)
    assert {row["abstains"] for row in rows} == {"yes", "no"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--confidence_level", "90"], "expected 0.01, 0.02 .. or 0.99, got '90'"),
        (["--confidence_level", "high"], "expected 0.01, 0.02 .. or 0.99, got 'high'"),
        (["--abstain", "-1"], "expected the widest interval to accept, a number from 0, got '-1'"),
        (["--abstain", "nan"], "a number from 0, got 'nan'"),
    ],
)
def test_trust_that_cannot_be_is_refused(run, arguments, message):
    code, _, errors = run("--text", "great", *arguments)
    assert code == 2
    assert message in errors


def test_abstaining_needs_a_calibration(run, smoke_run, tmp_path):
    shutil.copytree(smoke_run / "model", tmp_path / "model")
    (tmp_path / "model" / "calibration.json").unlink()
    assert "interval" not in run("--text", "great", model=tmp_path / "model")[1]
    code, _, errors = run("--text", "great", "--abstain", "1", model=tmp_path / "model")
    assert (code, errors.count("\n")) == (2, 1)
    assert "expected calibration.json beside the model for an interval, found none; evaluate its run again" in errors
    (tmp_path / "model" / "calibration.json").write_text("{")
    code, _, errors = run("--text", "great", model=tmp_path / "model")
    assert (code, errors.count("\n")) == (2, 1)
    assert "calibration.json: expected the quantiles that an evaluation saved" in errors


def test_a_batch_of_one_in_a_file_is_one_sample(run, frames, tmp_path):
    np.save(tmp_path / "batch.npy", frames["audio"][None])
    expected = run("--audio", str(tmp_path / "audio.npy"))
    assert expected[0] == 0
    assert run("--audio", str(tmp_path / "batch.npy")) == expected
    (tmp_path / "in.csv").write_text("audio\naudio.npy\nbatch.npy\n")
    assert run("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"))[0] == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        one, other = (row["score"] for row in csv.DictReader(file))
    assert float(one) == pytest.approx(float(other), abs=1e-5)


def test_several_samples_in_a_file_are_refused_and_none_is_dropped(run, frames, tmp_path):
    np.save(tmp_path / "batch.npy", np.stack([frames["audio"]] * 3))
    (tmp_path / "in.csv").write_text("audio\nbatch.npy\n")
    for arguments in (
        ("--audio", str(tmp_path / "batch.npy")),
        ("--csv", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")),
    ):
        code, _, errors = run(*arguments)
        assert (code, errors.count("\n")) == (2, 1)
        assert "(3, 9, 5)" in errors
        assert "save one sample per file" in errors


@pytest.mark.slow
def test_one_sample_takes_one_thread_and_idle_threads_sleep(smoke_run, monkeypatch):
    """The policy is set before torch is loaded, so it takes a process of its own."""
    code = """
import os, sys
import derl_predict, torch
from derl.predict.predictor import Predictor
predict, threads = Predictor.predict_batch, torch.get_num_threads()
def say(self, *arguments):
    print(torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"])
    return predict(self, *arguments)
Predictor.predict_batch = say
sys.argv = ["derl_predict.py", sys.argv[1], "--text", "great"]
derl_predict.main()
assert torch.get_num_threads() == threads
"""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for given, said in (({}, "1 PASSIVE"), ({"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"}, "2 ACTIVE")):
        done = subprocess.run(
            [sys.executable, "-c", code, str(smoke_run)],
            capture_output=True,
            text=True,
            env=os.environ | given | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.stdout.splitlines()[0] == said, done.stderr
