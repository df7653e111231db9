"""Several processes train and judge as one does."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_text
from transformers import BertModel

from derl.data.split import save_splits
from derl.data.synthetic import make_synthetic
from derl.train.processes import SharedBatches

SCRIPT = str(Path(__file__).parents[3] / "examples" / "derl_mosi.py")
BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [str(BIN / "accelerate"), "launch", "--config_file"]
CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
TOLERANCE = 2e-4  # of a score between -3 and 3, in float32, after 27 steps


@pytest.mark.parametrize(("size", "batch_size", "count"), [(33, 8, 2), (33, 8, 3), (7, 16, 4), (5, 2, 3), (8, 4, 1)])
def test_parts_are_the_batches_that_one_process_draws(size, batch_size, count):
    def parts(rank, count):
        return SharedBatches(size, batch_size, 3, lambda: 5, rank, count)

    whole = parts(0, 1)
    assert sorted(index for batch in whole for index in batch) == list(range(size))
    shared = [parts(rank, count) for rank in range(count)]
    for step, batch in enumerate(whole):
        own = [list(part)[step] for part in shared]
        weights = [part.weight(step) for part in shared]
        assert all(own)
        assert [index for each, weight in zip(own, weights, strict=True) if weight for index in each] == batch
        sums = [weight * sum(each) / len(each) for each, weight in zip(own, weights, strict=True)]
        assert sum(sums) / count == pytest.approx(sum(batch) / len(batch))  # so is the mean of any loss
    assert {len(part) for part in shared} == {len(whole)}
    assert shared[0].weight(len(whole)) == shared[0].weight(0)  # the next epoch


def test_another_epoch_has_another_order():
    epoch = [0]
    batches = SharedBatches(40, 8, 0, lambda: epoch[0], 0, 1)
    first = list(batches)
    epoch[0] = 1
    assert list(batches) != first


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Odd numbers of samples, and a text encoder without dropout, whose draws would differ between processes."""
    folder = tmp_path_factory.mktemp("data")
    synthetic = make_synthetic(
        sizes={"train": 33, "valid": 11, "test": 13}, max_lengths={"text": 20, "audio": 12, "vision": 9}
    )
    save_splits(synthetic.splits, folder / "tiny.safetensors")
    synthetic.tokenizer.save_pretrained(folder / "encoder")
    torch.manual_seed(0)
    BertModel(tiny_text(len(synthetic.tokenizer), layers=1)).save_pretrained(folder / "encoder")
    return folder


def options(data, folder, *more):
    return [
        *("--data", str(data / "tiny.safetensors"), "--text_encoder", str(data / "encoder"), "--precision", "fp32"),
        *("--epochs", "3", "--batch_size", "4", "--learning_rate", "1e-3", "--output_dir", str(folder), *more),
    ]


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "alone"
    done = run(sys.executable, SCRIPT, *options(data, folder))
    assert done.returncode == 0, done.stderr
    return folder, done


def predictions(folder):
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    ids = [row.pop("id") for row in rows]
    return ids, torch.tensor([[float(value) for value in row.values()] for row in rows])


def assert_same(folder, expected):
    (ids, scores), (expected_ids, expected_scores) = predictions(folder), predictions(expected)
    assert ids == expected_ids  # none dropped, none twice
    torch.testing.assert_close(scores, expected_scores, atol=TOLERANCE, rtol=0)
    weights, expected_weights = (load_file(path / "model" / "model.safetensors") for path in (folder, expected))
    assert weights.keys() == expected_weights.keys()


@pytest.mark.slow
@pytest.mark.parametrize("launch", ["torchrun", "ddp_cpu.yaml"])
def test_two_processes_give_the_figures_of_one(data, alone, tmp_path, launch):
    folder = tmp_path / "two"
    start = TORCHRUN if launch == "torchrun" else [*ACCELERATE, str(CONFIGS / launch)]
    done = run(*start, SCRIPT, *options(data, folder))
    assert done.returncode == 0, done.stderr
    assert_same(folder, alone[0])
    assert done.stdout.count("report, predictions and pictures") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_judge_a_model_again(data, alone, tmp_path):
    done = run(*TORCHRUN, SCRIPT, "--evaluate", str(alone[0]))
    assert done.returncode == 0, done.stderr
    assert_same(alone[0], alone[0])


@pytest.mark.slow
def test_two_processes_stop_and_go_on(data, alone, tmp_path):
    folder = tmp_path / "stopped"
    with subprocess.Popen(
        [*TORCHRUN, SCRIPT, *options(data, folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        while not list(folder.glob("checkpoints/checkpoint-*")) and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
    assert not (folder / "results.json").exists()
    done = run(*TORCHRUN, SCRIPT, "--resume", str(folder))
    assert done.returncode == 0, done.stderr
    assert_same(folder, alone[0])


@pytest.mark.slow
def test_an_error_is_said_once(data, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    done = run(*TORCHRUN, SCRIPT, *options(data, tmp_path / "full"))
    assert done.returncode != 0
    assert done.stderr.count("expected a new or empty folder, found something in it") == 1
