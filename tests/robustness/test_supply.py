"""Nothing is fetched, and dependencies are what they are said to be."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "derl_mosi.py"
WITHOUT_SOCKETS = """
import os
import sys

EVENTS = ("connect", "bind", "getaddrinfo", "gethostbyname", "sendto")
EVENTS = {*(f"socket.{name}" for name in EVENTS), "urllib.Request"}

def refuse(event, details):
    if event in EVENTS:  # no handler of errors can hide the end of the process
        os.write(2, f"the network was asked for: {event} {details}".encode())
        os._exit(99)

sys.addaudithook(refuse)
"""


def run(code, *arguments, prefix=()):
    command = [*prefix, sys.executable, "-c", WITHOUT_SOCKETS + code, *arguments]
    paths = os.pathsep.join([str(ROOT / "examples"), str(ROOT)])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {"PYTHONPATH": paths}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def allowed_to_cut():
    cut = ["unshare", "-rn", "true"]
    return shutil.which("unshare") is not None and subprocess.run(cut, capture_output=True).returncode == 0


@pytest.mark.slow
def test_importing_asks_nothing_of_the_network():
    modules = "derl.model.derl", "derl.predict.predictor", "derl.train.trainer", "derl.study.command"
    done = run(f"import modx, modx.metrics, modx.ops, {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


def test_the_refusal_works():
    done = run("import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')")
    assert "the network was asked for" in done.stderr
    assert done.returncode == 99


@pytest.mark.slow
def test_the_default_run_asks_nothing_of_the_network_and_works_without_one(tmp_path):
    code = f"import runpy; sys.argv[0] = {str(SCRIPT)!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    arguments = ["--preset", "smoke", "--epochs", "1", "--output_dir", str(tmp_path / "run")]
    done = run(code, *arguments, prefix=["unshare", "-rn"] if allowed_to_cut() else [])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.md").exists()


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = re.compile(rf"{project['name']}\[")
    return [each for group in (project["dependencies"], *extras.values()) for each in group if not own.match(each)]


@pytest.mark.parametrize("requirement", sorted(set(requirements())))
def test_a_dependency_has_a_lower_bound_and_no_upper_one(requirement):
    assert re.fullmatch(r"[\w.-]+>=[\d.]+(; sys_platform == 'linux')?", requirement)


def test_what_is_installed_is_not_below_the_bounds():
    from importlib.metadata import PackageNotFoundError, version

    from packaging.version import Version

    for requirement in requirements():
        name, _, bound = requirement.partition(";")[0].partition(">=")
        try:
            found = version(name)
        except PackageNotFoundError:  # an extra that the tests do not need
            continue
        assert Version(found) >= Version(bound), name
