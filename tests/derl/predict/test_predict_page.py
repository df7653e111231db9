"""The code of docs/predict.md runs."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "predict.md").read_text()


@pytest.mark.parametrize("number", range(3))
@pytest.mark.filterwarnings("ignore:.* was cut to its first:UserWarning")  # a small model has small lengths
def test_the_code_runs_on_a_runs_model(number, smoke_run, capsys):
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[number]
    exec(compile(code.replace("runs/20260101-120000", str(smoke_run)), "predict.md", "exec"), {})
    assert capsys.readouterr().out
