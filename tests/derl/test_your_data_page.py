"""The page docs/your-data.md, run from an empty folder: its scripts, its commands, and its claims."""

import csv
import importlib
import json
import re
import shlex
import sys
import warnings
from pathlib import Path

import pytest

from derl.demo.html import score_html
from derl.demo.opening import open_explorer

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "your-data.md").read_text()
SCRIPTS = {re.match(r"# (\w+\.py)", code)[1]: code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}
COMMANDS = [
    shlex.split(line.replace("--epochs 8", "--epochs 2"))
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if ".venv/bin/python " in line and "-m venv" not in line
]


def run(words, folder, monkeypatch, capsys):
    """Run a command of the page in this process; return what it printed."""
    script, arguments = next((Path(word), words[at + 1 :]) for at, word in enumerate(words) if word.endswith(".py"))
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    capsys.readouterr()
    if script.name in SCRIPTS:
        exec(compile(SCRIPTS[script.name], script.name, "exec"), {})
    elif script.stem == "derl_demo":  # a server
        explorer, _ = open_explorer(arguments[1], None)
        print(score_html(explorer.explore(2, explorer.text(2), 0.5, "frames")))
    else:
        assert importlib.import_module(script.stem).main() == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.slow
def test_every_command_of_the_page_runs_in_its_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    printed = [run(words, tmp_path, monkeypatch, capsys) for words in COMMANDS]
    (first,) = re.findall(r"```text\n(id,.*?)```", PAGE, re.DOTALL)
    assert (tmp_path / "moods" / "table.csv").read_text().startswith(first)
    trained = printed[1]
    assert "splits drawn with seed 0" in trained
    assert any(f'data-figure="label"></b> {name}' in "".join(printed[2:]) for name in ("angry", "calm", "happy"))
    assert re.search(r"text is absent in \d+ of \d+ samples", " ".join(trained.split()))
    results = json.loads((tmp_path / "runs" / "moods" / "results.json").read_text())
    assert (results["task"], results["classes"]) == ("classification", ["angry", "calm", "happy"])
    assert {"accuracy", "f1_macro", "f1_weighted"} == results["intra_modal"]["rows"]["DERL"][0].keys()
    assert "Acc-7" not in trained
    for name in ("report.md", "predictions.csv", "confusion.png", "robustness.png"):
        assert (tmp_path / "runs" / "moods" / name).exists()
    one = next(text for words, text in zip(COMMANDS, printed, strict=True) if "derl_predict.py" in words[1])
    assert re.match(r"(angry|calm|happy): probability 0\.\d{3}\nnext: ", one)
    with (tmp_path / "scored.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    for row in rows:
        shares = [float(row[f"probability_{name}"]) for name in results["classes"]]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert float(row["probability"]) == max(shares) == float(row[f"probability_{row['class']}"])


def test_the_page_names_every_file_of_frames_that_is_read():
    from derl.data.frames import PAGE as named
    from derl.data.frames import READERS

    assert (TOP / named).exists()
    for suffix in READERS:
        assert f"`{suffix}`" in PAGE


def test_the_page_that_errors_name_says_how_to_write_any_other_format():
    from derl.data.formats import WRITER

    named = re.search(r"ShardWriter \((docs/[\w-]+\.md)\)", WRITER)[1]
    assert " ShardWriter(" in (TOP / named).read_text()
