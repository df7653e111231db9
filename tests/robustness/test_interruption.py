"""A run that is killed, stopped or starved goes on where it was, and ends with the same bits."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kill import read_predictions
from processes import SMOKE, finish, start

pytestmark = pytest.mark.slow
SCRIPT = str(Path(__file__).parents[2] / "examples" / "derl_mosi.py")
TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2"]


def test_by_the_papers_recipe_too_which_chooses_a_checkpoint(paper_trial):
    assert len([*paper_trial.kill_at_moments(2, seed=2), *paper_trial.kill_at_files(4)]) >= 6


def test_killed_at_random_moments_it_goes_on_to_the_same_bits(trial):
    assert len(list(trial.kill_at_moments(5, seed=1))) == 5


def test_killed_at_its_file_operations_it_goes_on_to_the_same_bits(trial):
    stages = list(trial.kill_at_files(9))
    assert len(stages) >= 9
    assert "writing or removing a checkpoint" in stages


def wait_for_checkpoint(folder, process):
    deadline = time.monotonic() + 300
    while not list(folder.glob("checkpoints/*/checksums.json")):
        assert time.monotonic() < deadline
        assert process.is_alive() if hasattr(process, "is_alive") else process.poll() is None
        time.sleep(0.002)


def go_on(folder, log):
    """Resume by the very words that the stopped run printed."""
    words = re.findall(r"to resume: python .*derl_mosi.py (--resume \S+)", log.read_text())
    assert words, log.read_text()
    again = log.with_suffix(".again")
    assert finish(start(words[-1].split(), again)) == 0, again.read_text()
    return read_predictions(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_at_the_next_step_with_a_checkpoint(trial, tmp_path, number):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = start([*SMOKE, "--output_dir", str(folder)], log)
    wait_for_checkpoint(folder, process)
    os.kill(process.pid, number)
    assert finish(process) == 130, log.read_text()
    assert "Traceback" not in log.read_text()
    assert not (folder / "report.md").exists()
    assert go_on(folder, log) == trial.expected


def test_a_killed_process_that_loads_data_is_named(trial, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = start([*SMOKE, "--num_workers", "1", "--output_dir", str(folder)], log)
    wait_for_checkpoint(folder, process)
    while process.is_alive():
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                child.kill()
        time.sleep(0.01)
    assert finish(process) == 1, log.read_text()
    assert "DataLoader worker" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert go_on(folder, log) == trial.expected  # with the process again, and as without any


def allowed_to_mount():
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(mount, capture_output=True).returncode == 0


@pytest.mark.skipif(not allowed_to_mount(), reason="needs a file system of its own, by unshare and mount")
@pytest.mark.parametrize(
    ("room", "break_it", "mend", "message"),
    [
        ("3m", "true", "mount -o remount,size=300m {disk}", "No space left on device"),
        (
            "300m",
            "mount --bind {checkpoints} {checkpoints} && mount -o remount,bind,ro {checkpoints}",
            "umount {checkpoints}",
            "Read-only file system",
        ),
    ],
    ids=["full disk", "read-only folder"],
)
def test_a_folder_that_cannot_be_written_any_more(trial, tmp_path, room, break_it, mend, message):
    disk, command = tmp_path / "disk", f"{sys.executable} {SCRIPT}"
    disk.mkdir()
    steps = f"""
        mount -t tmpfs -o size={room} none {disk}
        {command} {" ".join(SMOKE)} --output_dir {disk}/run > {tmp_path}/log 2>&1 &
        while [ ! -e {disk}/run/checkpoints/checkpoint-4/checksums.json ] && kill -0 $!; do sleep 0.01; done
        {break_it.format(checkpoints=disk / "run" / "checkpoints")} || exit 9
        wait $!
        echo "code: $?" >> {tmp_path}/log
        {mend.format(disk=disk, checkpoints=disk / "run" / "checkpoints")} || exit 9
        {command} --resume {disk}/run > {tmp_path}/again 2>&1 && cp {disk}/run/predictions.csv {tmp_path}
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", steps], capture_output=True, text=True, timeout=300, env=environment()
    )
    log = (tmp_path / "log").read_text()
    assert message in log, (log, done.stderr)
    assert "code: 1" in log
    assert "Traceback" not in log
    assert f"to resume: python {SCRIPT} --resume {disk}/run" in log
    assert done.returncode == 0, (tmp_path / "again").read_text()
    assert (tmp_path / "predictions.csv").read_bytes() == trial.expected


def environment():
    apart = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # github.com/pytorch/pytorch/issues/135712
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | apart


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The predictions of two processes that were left alone."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    command = [*TORCHRUN, SCRIPT, *SMOKE, "--output_dir", str(folder)]
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=300)
    return read_predictions(folder)


def run_and_kill_one(folder, log, rank, *torchrun_options):
    """Start two processes, kill one once there is a checkpoint, and return torchrun's exit code."""
    command = [*TORCHRUN, *torchrun_options, SCRIPT, *SMOKE, "--output_dir", str(folder)]
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment(), stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        wait_for_checkpoint(folder, process)
        psutil.Process(process.pid).children()[rank].kill()
        return process.wait(timeout=300)


def test_one_of_two_processes_is_killed_and_both_can_be_started_again(shared, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    assert run_and_kill_one(folder, log, 0) != 0
    command = re.findall(r"to resume: torchrun (.+ --resume \S+)", log.read_text())[-1]
    command = [TORCHRUN[0], *command.split()]
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=300)
    assert read_predictions(folder) == shared


def test_torchrun_starts_both_again_by_itself(shared, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    assert run_and_kill_one(folder, log, 1, "--max-restarts", "1") == 0, log.read_text()
    assert read_predictions(folder) == shared


def test_a_restart_takes_over_no_run_of_other_options(trial, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trial.scratch / "whole", folder)
    environ = {"TORCHELASTIC_RESTART_COUNT": "1"}
    log = tmp_path / "log"
    assert finish(start([*SMOKE, "--seed", "5", "--output_dir", str(folder)], log, environ=environ)) == 2
    assert "expected a new or empty folder" in log.read_text()
    assert read_predictions(folder) == trial.expected


def test_a_signal_while_the_last_epoch_is_judged_stops_before_the_test_split(trial, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    process = start([*SMOKE, "--output_dir", str(folder)], log)
    while not (folder / "checkpoints" / "checkpoint-12").exists():
        assert process.is_alive()
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 130, log.read_text()
    assert not (folder / "results.json").exists()
    assert go_on(folder, log) == trial.expected
