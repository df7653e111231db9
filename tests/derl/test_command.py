"""The command as a user runs it: train, stop, go on, judge again."""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel

import derl_mosi
from derl.data.synthetic import make_synthetic
from machine import processor

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "examples" / "derl_mosi.py")]
PICTURES = [f"{name}.png" for name in ("robustness", "routing", "confusion", "reliability")]
OUTPUTS = ["results.json", "report.md", "predictions.csv", *PICTURES]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny pickle in MMSA's layout and a tiny text encoder, both made here."""
    folder = tmp_path_factory.mktemp("data")
    synthetic = make_synthetic(
        sizes={"train": 32, "valid": 12, "test": 14}, max_lengths={"text": 20, "audio": 12, "vision": 9}
    )
    content = {
        name: {
            "raw_text": np.array(split.text, dtype=object),
            "id": split.ids,
            "regression_labels": split.labels.numpy(),
            "audio": split.features["audio"].numpy(),
            "audio_lengths": split.lengths["audio"].tolist(),
            "vision": split.features["vision"].numpy(),
            "vision_lengths": split.lengths["vision"].tolist(),
        }
        for name, split in synthetic.splits.items()
    }
    (folder / "tiny.pkl").write_bytes(pickle.dumps(content))
    synthetic.tokenizer.save_pretrained(folder / "encoder")
    BertModel(
        BertConfig(
            vocab_size=len(synthetic.tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    ).save_pretrained(folder / "encoder")
    return folder


def options(data, folder, *more):
    return [
        *("--data", str(data / "tiny.pkl"), "--text_encoder", str(data / "encoder"), "--output_dir", str(folder)),
        *("--epochs", "6", "--batch_size", "4", "--recipe", "robust", *more),  # it has all that a run must remember
    ]


def run(*arguments):  # the time limits are for a hang, not for speed
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=600
    )


@pytest.fixture
def here(monkeypatch, call):
    """Runs the command in this process, where nothing is imported again; returns its exit code, output and errors."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return partial(call, derl_mosi.main, "derl_mosi.py")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    done = run(*options(data, folder))
    assert done.returncode == 0, done.stderr
    return folder, done


def read_predictions(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_reports_beside_constant_predictors(finished):
    folder, done = finished
    assert [name for name in OUTPUTS if not (folder / name).exists()] == []
    results = json.loads((folder / "results.json").read_text())
    assert set(results["intra_modal"]["rows"]) == {"DERL", "all negative", "all positive", "training mean"}
    assert len(results["intra_modal"]["rows"]["DERL"]) == 10
    assert len(results["inter_modal"]["conditions"]) == 7
    assert results["data"]["synthetic"] is False
    assert processor() in results["machine"]
    assert f"MKL_CBWR {os.environ.get('MKL_CBWR', 'unset')}" in results["machine"]
    assert len(read_predictions(folder)) == 14
    assert "converting" in done.stdout
    assert done.stdout.count("negative/zero/positive; the paper's Table A.7 has") == 3  # once for each split
    assert "training mean" in done.stdout


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_never_stopped(data, finished, tmp_path):
    folder = tmp_path / "stopped"
    with subprocess.Popen(
        [*COMMAND, *options(data, folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        deadline = time.monotonic() + 480
        while not list(folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=480)
    assert process.returncode == 130, output
    assert f"--resume {folder}" in output
    assert not (folder / "results.json").exists()
    resumed = run("--resume", str(folder))
    assert resumed.returncode == 0, resumed.stderr
    assert "converting" not in resumed.stdout
    assert "Table A.7" not in resumed.stdout
    assert read_predictions(folder) == read_predictions(finished[0])


@pytest.mark.slow
def test_evaluation_alone_gives_the_same_figures(finished, here):
    folder, _ = finished
    before = read_predictions(folder)
    (folder / "predictions.csv").unlink()
    code, output, errors = here("--evaluate", str(folder))
    assert code == 0, errors
    assert "Table A.7" not in output
    assert read_predictions(folder) == before


@pytest.mark.slow
def test_a_model_is_judged_by_another_pattern_beside_its_own_report(finished, here):
    folder, _ = finished
    before = (folder / "report.md").read_bytes()
    code, output, errors = here("--evaluate", str(folder), "--eval_pattern", "together+bursts")
    assert code == 0, errors
    assert "bursts" in output
    judged = json.loads((folder / "evaluated_on_together+bursts" / "results.json").read_text())
    own = json.loads((folder / "results.json").read_text())
    assert judged["pattern"] == "together+bursts"
    assert own["pattern"] == "frames"
    assert judged["intra_modal"]["rows"]["DERL"][0] == own["intra_modal"]["rows"]["DERL"][0]  # nothing is missing
    assert judged["intra_modal"]["rows"]["DERL"][5] != own["intra_modal"]["rows"]["DERL"][5]
    assert (folder / "report.md").read_bytes() == before


@pytest.mark.slow
def test_the_plain_baseline_runs_the_same_protocol(data, here, tmp_path):
    code, _, errors = here(*options(data, tmp_path / "plain", "--model", "plain", "--epochs", "1"))
    assert code == 0, errors
    results = json.loads((tmp_path / "plain" / "results.json").read_text())
    assert "plain" in results["intra_modal"]["rows"]
    assert results["routing"] is None


@pytest.mark.slow
def test_an_existing_folder_is_never_overwritten(data, finished, here):
    folder, _ = finished
    before = (folder / "results.json").read_bytes()
    code, _, errors = here(*options(data, folder))
    assert code == 2
    assert "expected a new or empty folder" in errors
    assert (folder / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "nowhere"], "expected the folder of a run"),
        (["--resume", "nowhere", "--epochs", "3"], "leave out --epochs"),
        (["--evaluate", "nowhere"], "expected the folder of a run"),
        (["--output_dir", "/dev/null/run"], "expected a folder that can be written"),
        (["--data", "nowhere.pkl", "--output_dir", "{folder}"], "nowhere.pkl"),
        (["--train_pattern", "holes", "--output_dir", "{folder}"], "--train_pattern: parse_pattern expected pattern"),
        (["--corrupted_share", "2", "--output_dir", "{folder}"], "--corrupted_share expected numbers in [0, 1], got 2"),
        (["--select_rates", "0.5", "5", "--output_dir", "{folder}"], "--select_rates expected numbers in [0, 1]"),
        (["--reconstruction_levels", "deep", "--output_dir", "{folder}"], "expected some of input, disentangled"),
        (["--epochs", "0", "--output_dir", "{folder}"], "--epochs expected a finite number of at least 1, got 0"),
    ],
)
def test_bad_input_is_one_clear_line_before_any_training(arguments, message, here, tmp_path):
    code, _, errors = here(*(argument.format(folder=tmp_path / "run") for argument in arguments))
    assert code == 2, errors
    assert message in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_is_not_there_is_named(data, here, tmp_path):
    words = ("--data", str(data / "tiny.pkl"), "--text_encoder", str(tmp_path), "--output_dir", str(tmp_path / "run"))
    code, _, errors = here(*words)
    assert code == 2
    assert f"--text_encoder {tmp_path}: expected a folder or a model" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()
