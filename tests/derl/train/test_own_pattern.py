"""A pattern of one's own reaches the command and the study by its name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from derl.evaluate.conditions import pattern_conditions
from derl.study.cells import trained_on
from derl.study.command import reports
from derl.train.options import parse
from modx.missing import drop_block, register_pattern

TOP = Path(__file__).parents[3]


def test_the_command_and_the_study_know_a_registered_pattern(capsys):
    with pytest.raises(SystemExit):
        parse(["--train_pattern", "frames+own"])
    assert "got 'frames+own'; add your own with register_pattern" in capsys.readouterr().err
    register_pattern("own", drop_block)
    options = parse(["--train_pattern", "frames+own", "--eval_pattern", "own"])
    assert (options.train_pattern, options.eval_pattern) == ("frames+own", "own")
    assert "own r=0.5" in [condition.name for condition in pattern_conditions()]
    assert [name for name in trained_on() if "own" in name] == [
        "own",
        "frames+bursts+block+modalities+together+unequal+own",
    ]
    trained = {dict(cell.overrides).get("train_pattern") for cell in reports("smoke")["patterns"].cells(1, False)}
    assert "own" in trained


@pytest.mark.slow
def test_the_script_of_the_page_trains_and_resumes_with_its_pattern(tmp_path):
    page = (TOP / "docs" / "extending.md").read_text()
    (tmp_path / "my_derl.py").write_text(page.partition("```python\n# my_derl.py\n")[2].partition("```")[0])
    environment = os.environ | {"PYTHONPATH": f"{TOP}{os.pathsep}{TOP / 'examples'}"}

    def run(*arguments):
        command = [sys.executable, "my_derl.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    patterns = ("--train_pattern", "frames+start", "--eval_pattern", "start")
    trained = run("--preset", "smoke", "--epochs", "1", "--num_workers", "1", *patterns, "--output_dir", "run")
    assert trained.returncode == 0, trained.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["options"]["train_pattern"], results["options"]["eval_pattern"]) == ("frames+start", "start")
    again = run("--evaluate", "run")
    assert again.returncode == 0, again.stderr
