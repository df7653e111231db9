"""A checkpoint holds no pickle, and one that is damaged or another's is named, not half loaded."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from derl.train.checkpoint import seal
from processes import finish, start

pytestmark = pytest.mark.slow
FILES = ["model.safetensors", "optimizer.safetensors", "rng_state.safetensors", "trainer_state.json", "config.json"]
LAST = Path("checkpoints") / "checkpoint-12"


@pytest.fixture(scope="module")
def whole(trial):
    return trial, trial.scratch / "whole"


@pytest.fixture
def run(whole, tmp_path):
    """A run that has its last checkpoint, but no model yet."""
    folder = tmp_path / "run"
    shutil.copytree(whole[1], folder)
    shutil.rmtree(folder / "model")
    return folder


def resume(folder):
    log = folder.with_suffix(".log")
    return finish(start(["--resume", str(folder)], log)), log.read_text()


def reseal(checkpoint):
    """Make the checksums right again, as they are in another run's checkpoint."""
    (checkpoint / "checksums.json").unlink()
    seal(checkpoint)


def test_no_file_of_a_run_is_a_pickle(whole):
    files = [path for path in whole[1].rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) > 20
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".csv", ".png", ".md", ".0"}
    for path in files:
        assert path.read_bytes()[:1] != b"\x80", path  # a pickle of protocol 2 or later
        assert path.read_bytes()[:2] != b"PK", path  # a zip of torch.save
    assert sorted(path.name for path in (whole[1] / LAST).iterdir()) == sorted([*FILES, "checksums.json"])


def test_a_run_goes_on_without_torch_load(run, whole):
    code, log = resume(run)  # in a process where torch.load raises
    assert code == 0, log
    assert (run / "predictions.csv").read_bytes() == whole[0].expected


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "one bit", "gone"])
def test_damage_is_named_before_anything_is_loaded(run, name, damage):
    path = run / LAST / name
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    code, log = resume(run)
    assert code == 2, log
    assert f"{path}: expected the file that was saved" in log
    assert f"remove {run / LAST} and any checkpoint after it, to resume from the one before" in log
    assert "Traceback" not in log
    assert not (run / "model").exists()


def test_without_the_damaged_checkpoint_it_goes_on_from_the_one_before(run, whole):
    (run / LAST / "model.safetensors").unlink()
    assert resume(run)[0] == 2
    shutil.rmtree(run / LAST)
    code, log = resume(run)
    assert code == 0, log
    assert (run / "predictions.csv").read_bytes() == whole[0].expected


def test_the_checkpoint_with_the_least_error_is_guarded_too(paper_trial, tmp_path):
    """By the paper's recipe it is the one that is judged, and need not be the last."""
    run = tmp_path / "whole"
    shutil.copytree(paper_trial.scratch / "whole", run)
    shutil.rmtree(run / "model")
    last = run / "checkpoints" / "checkpoint-12"
    state = json.loads((last / "trainer_state.json").read_text())
    best = run / "checkpoints" / f"checkpoint-{state['best_global_step']}"
    assert best != last, "a run whose last epoch is its best shows nothing"
    (best / "model.safetensors").write_bytes(b"")
    code, log = resume(run)
    assert code == 2, log
    assert f"remove {best} and any checkpoint after it" in log
    shutil.rmtree(best)
    code, log = resume(run)
    assert code == 2, log
    assert "expected the checkpoint with the lowest error, found none" in log
    for checkpoint in (run / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    code, log = resume(run)
    assert code == 0, log
    assert (run / "predictions.csv").read_bytes() == paper_trial.expected


def test_a_state_that_is_none_is_named(run):
    (run / LAST / "trainer_state.json").write_text("{}")
    reseal(run / LAST)
    code, log = resume(run)
    assert code == 2, log
    assert "trainer_state.json: expected a part of a checkpoint" in log
    assert "Traceback" not in log


def change_weights(path, change):
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("head.bias"), "head.bias: [1], as this run's model has it, found no such weight"),
        (lambda weights: weights.update({"head.weight": torch.zeros(1, 3)}), "head.weight: [1, "),
        (lambda weights: weights.update(more=torch.zeros(2)), "more: no such weight"),
    ],
    ids=["a weight less", "another shape", "a weight more"],
)
def test_a_model_of_another_run_is_named(run, change, message):
    change_weights(run / LAST / "model.safetensors", change)
    reseal(run / LAST)
    code, log = resume(run)
    assert code == 2, log
    assert message in log
    assert "Traceback" not in log


def test_an_optimizer_of_another_run_is_named(run):
    change_weights(run / LAST / "optimizer.safetensors", lambda state: state.pop(sorted(state)[0]))
    reseal(run / LAST)
    code, log = resume(run)
    assert code == 2, log
    assert "optimizer.safetensors: expected" in log
    assert "Traceback" not in log


def test_seals_that_are_no_seals(run):
    for content in ("[]", "{", json.dumps({"model.safetensors": 3})):
        (run / LAST / "checksums.json").write_text(content)
        code, log = resume(run)
        assert code == 2, (content, log)
        assert "Traceback" not in log


def test_a_folder_that_has_moved_goes_on(run, whole, tmp_path):
    shutil.rmtree(run / LAST)
    shutil.move(run, tmp_path / "elsewhere")
    code, log = resume(tmp_path / "elsewhere")
    assert code == 0, log
    assert (tmp_path / "elsewhere" / "predictions.csv").read_bytes() == whole[0].expected
