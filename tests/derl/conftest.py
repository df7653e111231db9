"""One small run of the command, for every test of what it leaves behind."""

import sys
import warnings

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


@pytest.fixture
def call(capsys, monkeypatch):
    """Calls a command's ``main`` with arguments, in this process; returns its exit code, output and errors."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command's own, for this test alone

    def run(main, *argv):
        monkeypatch.setattr(sys, "argv", list(argv))
        capsys.readouterr()
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run
