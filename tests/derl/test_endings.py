"""How commands end and what they say of themselves: Ctrl-C, remedies to paste, help in groups, one style of options."""

import ast
import os
import runpy
import shlex
import signal
import subprocess
import sys
import urllib.request
import warnings
from functools import partial
from pathlib import Path

import pytest

from derl.train.options import GROUPS, Options, make_parser, parse
from derl.train.run import RunError, RunFolder

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = {  # arguments, and what a Ctrl-C comes in the middle of
    "derl_mosi": (("--preset", "smoke", "--output_dir", "a run"), "derl.train.setup.Setup.build"),
    "derl_demo": ((), "derl.demo.opening.open_explorer"),
    "derl_predict": (("model", "--text", "a"), "derl.predict.predictor.load"),
    "derl_paper": (("table1", "--smoke", "--study", "a study"), "derl.study.command.run_cells"),
    "derl_shards": (("--verify", "folder"), "derl.data.shards.verify_shards"),
    "derl_export": (("model", "--to", "torch", "out.pt2"), "derl.predict.export.export"),
    "digits_views": ((), "digits.views.load_views"),
    "icu_mortality": (("--data", "stays.npz"), "icu.stays.read_stays"),
    "actions_mhad": (("--data", "clips.npz"), "actions.clips.read_clips"),
}


LISTEN = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def interrupt(process):
    """Press Ctrl-C; what the process then says, at its end."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=120)[1]
    finally:
        process.kill()  # or a process that does not listen would be waited for


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_one_line_and_130(name, tmp_path, monkeypatch, capsys):
    arguments, target = COMMANDS[name]
    if name == "derl_demo":
        pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(target, interrupted)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 130
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("stopped")


def test_every_command_is_covered():
    commands = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert set(COMMANDS) == commands - {"minimal"}  # which stays one file


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_slow_is_imported_before_a_ctrl_c_ends_well(name):
    body = ast.parse((EXAMPLES / f"{name}.py").read_text()).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    before = names[: names.index("ending")]
    assert {module.partition(".")[0] for module in before} <= set(sys.stdlib_module_names)


def test_a_ctrl_c_while_modules_are_imported_is_one_line_too():
    code = "import ending, time; print('here', flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=LISTEN,
    ) as process:
        process.stdout.readline()
        errors = interrupt(process)
    assert (process.returncode, errors) == (130, "\nstopped\n")


@pytest.mark.slow
def test_the_page_is_served_behind_a_proxy_that_does_not_answer_until_ctrl_c(smoke_run):
    pytest.importorskip("gradio")
    with subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLES / "derl_demo.py"), "--model", str(smoke_run)],
        env=os.environ | dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=LISTEN,
    ) as process:
        for line in process.stdout:
            if line.startswith("open http://127.0.0.1:"):
                break
        address = line.split()[1].rstrip(";")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=30) as page:
            assert page.status == 200
        errors = interrupt(process)
    assert process.returncode == 130, errors
    assert errors.endswith("\nstopped\n")
    assert "Traceback" not in errors


def test_a_remedy_with_a_space_in_its_path_can_be_pasted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["my examples/derl_mosi.py"])
    place = tmp_path / "a run; of mine"
    with RunFolder.open(parse(["--preset", "smoke", "--output_dir", str(place)])) as (folder, _):
        words = shlex.split(folder.remedy.partition("to resume: ")[2])
    assert words == ["python", "my examples/derl_mosi.py", "--resume", str(place)]
    for options in (["--output_dir", str(place)], ["--evaluate", str(place)]):
        with pytest.raises(RunError) as refused, RunFolder.open(parse(options)):
            pass
        command = str(refused.value).partition("resume ")[2].partition(": ")[2].removesuffix(".")
        assert shlex.split(command) == ["--resume", str(place)]


def test_help_has_titled_groups_and_says_each_default_once(capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ | {"COLUMNS": "100"})
    with pytest.raises(SystemExit, match="0"):
        parse(["--help"])
    shown = capsys.readouterr().out
    assert "left out" not in shown
    assert "default: None" not in shown
    assert max(action.help.count("(default") for action in make_parser()._actions) == 1
    assert [line.removesuffix(":") for line in shown.splitlines() if line.endswith(":") and line[0] != " "] == [
        "options",
        *GROUPS.values(),
    ]
    assert {action.dest for action in make_parser()._actions} == {*vars(Options()), "help"}


def test_every_option_of_every_command_is_spelled_with_underscores():
    places = [*EXAMPLES.rglob("*.py"), *(EXAMPLES.parent / "benchmarks").glob("*.py")]
    calls = [node for path in places for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    added = [call for call in calls if getattr(call.func, "attr", "") == "add_argument" and call.args]
    names = [call.args[0].value for call in added if isinstance(call.args[0], ast.Constant)]
    assert "--dry_run" in names
    assert [name for name in names if "-" in name.removeprefix("--")] == []
