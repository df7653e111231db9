"""One small run of the command, for every test of what it leaves behind."""

import sys

import pytest

import derl_mosi


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The folder of a run on little synthetic data; its figures mean nothing."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    options = ["--preset", "smoke", "--epochs", "8", "--batch_size", "16", "--learning_rate", "0.01"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["derl_mosi.py", *options, "--output_dir", str(folder)])
        assert derl_mosi.main() == 0
    return folder
