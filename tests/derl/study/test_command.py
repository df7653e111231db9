"""A study as a user runs it: whole, broken off, shared by two processes, and with cells missing."""

import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from derl.data import DataError
from derl.options import parse
from derl.recipes import RECIPES
from derl.run import RunError
from derl.study.command import main
from derl.study.commands import commands
from derl.study.folder import open_study
from derl.study.record import RecordError

COMMAND = [sys.executable, str(Path(__file__).parents[3] / "examples" / "derl_paper.py")]
TABLES = ["table1", "table1_by_rate", "table1_differences", "table2", "table3", "table4", "table5", "table6"]
OTHERS = ["figure3", "recipes", "patterns_mae", "patterns_corr", "options"]
FIGURES = ["figure2", "figure3", "figure4", "patterns", "recipes"]


def run(study, what, *more):
    """In this process: importing costs more than most of what is tested here."""
    assert main([what, "--study", str(study), *more]) == 0


def start(study, what, *more):
    return subprocess.Popen(
        [*COMMAND, what, "--study", str(study), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def reports(study, protocol="valid"):
    return {path.name: path.read_bytes() for path in sorted((study / protocol).iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything, on the smoke set."""
    study = tmp_path_factory.mktemp("study") / "whole"
    run(study, "all", "--smoke")
    return study


def test_all_writes_every_table_and_figure(whole):
    expected = {f"{name}.{suffix}" for name in TABLES + OTHERS for suffix in ("md", "tex", "csv")}
    expected |= {f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")}
    found = reports(whole)
    assert found.keys() == expected
    assert all(found.values())
    assert not any(b"INCOMPLETE" in content for name, content in found.items() if name.endswith(".md"))
    assert not list((whole / "cells").glob(".*.work"))  # nothing but records is kept


def test_a_finished_study_gives_the_same_files_again_without_training(whole):
    before, records = reports(whole), {path: path.stat().st_mtime_ns for path in whole.glob("cells/*.safetensors")}
    run(whole, "all", "--smoke")
    assert reports(whole) == before
    assert {path: path.stat().st_mtime_ns for path in whole.glob("cells/*.safetensors")} == records


def test_every_table_names_its_protocol_and_its_data(whole):
    run(whole, "all", "--protocol", "paper")
    for protocol, words in (("valid", "Protocol valid: one checkpoint"), ("paper", "best on the TEST split")):
        for name, content in reports(whole, protocol).items():
            if name.endswith(".md"):
                one_choice = name.startswith(("table1_differences", "table5", "recipes", "patterns"))
                assert ("Protocol valid: one checkpoint" if one_choice else words) in content.decode(), name
                assert "SYNTHETIC" in content.decode(), name


def test_the_protocol_of_the_field_is_never_worse_than_the_honest_one(whole):
    def averages(protocol):
        with (whole / protocol / "table1.csv").open() as file:
            return {
                (row["row"], row["figure"]): float(row["mean"])
                for row in csv.DictReader(file)
                if row["row"].startswith(("DERL, ", "plain, ")) and "distance" not in row["figure"]
            }

    honest, best = averages("valid"), averages("paper")
    assert honest.keys() == best.keys()
    assert all(
        best[key] <= value if key[1] == "mae" else best[key] >= value or value != value for key, value in honest.items()
    )


def test_missing_cells_are_named_and_not_filled_in(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    (study / "cells" / "fusion=mean,recipe=paper,seed=0.safetensors").unlink()
    run(study, "table3", "--report_only")
    text = (study / "valid" / "table3.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| without MRF"))
    assert row.count("missing") == 8
    assert "INCOMPLETE, and nothing is filled in: fusion=mean,recipe=paper,seed=0." in text
    assert next(line for line in text.splitlines() if line.startswith("| DERL")).count("missing") == 0
    run(study, "table3")
    assert (study / "valid" / "table3.md").read_bytes() == (whole / "valid" / "table3.md").read_bytes()


@pytest.mark.parametrize("what", list(commands("smoke")))
def test_a_study_with_no_cell_at_all_reports_so(tmp_path, what, capsys):
    open_study(tmp_path, parse(["--preset", "smoke"]), [])
    assert main([what, "--study", str(tmp_path), "--report_only"]) == 0
    assert "INCOMPLETE, and nothing is filled in" in capsys.readouterr().out


def test_two_processes_share_a_study(whole, tmp_path):
    study = tmp_path / "study"
    processes = [start(study, "table3", "--smoke") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert (study / "valid" / "table3.csv").read_bytes() == (whole / "valid" / "table3.csv").read_bytes()
    journal = (study / "journal.log").read_text()
    cells = commands("smoke")["table3"].cells(1, True)
    assert [journal.count(f'"{cell.key}"') for cell in cells] == [1] * len(cells)  # each was run once


def test_a_killed_process_loses_its_current_cell_at_most(whole, tmp_path):
    study = tmp_path / "study"
    process = start(study, "table3", "--smoke")
    records = study / "cells"
    while not list(records.glob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(random.Random(time.time_ns()).uniform(0, 3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in records.glob("*.safetensors")}
    assert kept
    run(study, "table3", "--smoke")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (study / "valid" / "table3.csv").read_bytes() == (whole / "valid" / "table3.csv").read_bytes()


def test_another_option_needs_another_study(whole):
    with pytest.raises(RunError, match=r"this study was started with, --epochs 2, got --epochs 3; .* --study"):
        main(["table1", "--study", str(whole), "--smoke", "--epochs", "3"])


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="expected a new or empty folder or a study"):
        main(["table1", "--study", str(tmp_path), "--smoke"])
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["thesis.tex"]


def test_a_record_of_an_older_recipe_is_named(whole, tmp_path, monkeypatch):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    monkeypatch.setitem(RECIPES["robust"], "average_decay", 0.5)
    with pytest.raises(RecordError, match=r"expected average_decay = 0\.5, .* found 0\.98; delete the file"):
        main(["recipes", "--study", str(study), "--report_only"])


def test_reporting_a_study_that_is_not_there_makes_none(tmp_path):
    with pytest.raises(RunError, match="expected the folder of a study"):
        main(["table1", "--study", str(tmp_path / "study"), "--report_only"])
    assert not (tmp_path / "study").exists()


def test_data_that_cannot_be_read_can_be_corrected(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.pkl"):
        main(["table1", "--study", str(tmp_path / "study"), "--data", str(tmp_path / "nowhere.pkl")])
    with pytest.raises(DataError, match=r"elsewhere\.pkl"):
        main(["table1", "--study", str(tmp_path / "study"), "--data", str(tmp_path / "elsewhere.pkl")])


def test_a_broken_record_is_named(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    path = study / "cells" / "recipe=paper,seed=0.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordError, match="expected the file of a finished cell"):
        main(["table3", "--study", str(study), "--report_only"])
