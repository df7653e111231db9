"""A study as a user runs it: whole, broken off, shared by two processes, and with cells missing."""

import csv
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from derl.data.split import DataError, save_splits
from derl.data.synthetic import make_synthetic
from derl.model.registry import MODELS
from derl.study import run as study_run
from derl.study.cells import Variant, methods
from derl.study.command import main, models, reports
from derl.study.folder import open_study
from derl.study.ledger import Ledger, RecordError
from derl.train.options import Options, fill_in, parse
from derl.train.recipes import RECIPES
from derl.train.run import RunError

COMMAND = [sys.executable, str(Path(__file__).parents[3] / "examples" / "derl_paper.py")]
TABLES = [
    "derl",
    "table1",
    "table1_by_rate",
    "table1_bias",
    "table2",
    "table2_f1",
    "table3",
    "table4",
    "table5",
    "table6",
]
TABLES += ["table5_training", "figure3", *(f"{name}_differences" for name in ("table1", "table3", "options"))]
OTHERS = ["recipes", "recipes_load", "patterns_mae", "patterns_corr", "options", "options_valid"]
FIGURES = ["figure2", "figure3", "figure4", "patterns", "recipes"]


def run(study, what, *more):
    """In this process: importing costs more than most of what is tested here."""
    assert main([what, "--study", str(study), *more]) == 0


def start(study, what, *more):
    """As a user does."""
    return subprocess.Popen(
        [*COMMAND, what, "--study", str(study), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def written(study, protocol="valid"):
    return {path.name: path.read_bytes() for path in sorted((study / protocol).iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything, on the smoke set."""
    study = tmp_path_factory.mktemp("study") / "whole"
    run(study, "all", "--smoke")
    return study


@pytest.mark.slow
def test_all_writes_every_table_and_figure(whole):
    expected = {f"{name}.{suffix}" for name in TABLES + OTHERS for suffix in ("md", "tex", "csv")}
    expected |= {f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")}
    expected |= {"figure2.md", "figure4.md"}  # captions of those without a table
    found = written(whole)
    assert found.keys() == expected
    assert all(found.values())
    assert not any(b"INCOMPLETE" in content for name, content in found.items() if name.endswith(".md"))
    assert not list((whole / "cells").glob(".*.work"))  # nothing but records is kept


@pytest.mark.slow
def test_a_finished_study_gives_the_same_files_again_without_training(whole):
    before, records = written(whole), {path: path.stat().st_mtime_ns for path in whole.glob("cells/*.safetensors")}
    run(whole, "all", "--smoke")
    assert written(whole) == before
    assert {path: path.stat().st_mtime_ns for path in whole.glob("cells/*.safetensors")} == records


@pytest.fixture(scope="module")
def by_both(whole):
    """The same study, reported by the paper's protocol too."""
    run(whole, "all", "--protocol", "paper")
    return whole


@pytest.mark.slow
def test_every_table_names_its_protocol_and_its_data(by_both):
    for protocol, words in (("valid", "Protocol valid: one checkpoint"), ("paper", "best epoch on the TEST split")):
        for name, content in written(by_both, protocol).items():
            if name.endswith(".md"):
                one_choice = "differences" in name or name.startswith(("table1_bias", "recipes", "patterns", "figure4"))
                assert ("Protocol valid: one checkpoint" if one_choice else words) in content.decode(), name
                assert "SYNTHETIC" in content.decode(), name


@pytest.mark.slow
def test_at_one_half_the_papers_protocol_is_never_worse_than_the_honest_one(by_both):
    def at_one_half(protocol):
        with (by_both / protocol / "table1_by_rate.csv").open() as file:
            return {
                (row["row"], row["figure"]): float(row["mean"])
                for row in csv.DictReader(file)
                if row["row"].endswith(", 0.5") and row["figure"] in ("mae", "acc2_has0", "acc2_non0", "acc5", "acc7")
            }

    honest, best = at_one_half("valid"), at_one_half("paper")
    assert honest.keys() == best.keys()
    assert len(honest) >= 20
    assert all(best[key] <= value if key[1] == "mae" else best[key] >= value for key, value in honest.items())
    assert best != honest


@pytest.mark.slow
def test_missing_cells_are_named_and_not_filled_in(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    (study / "cells" / "fusion=mean,recipe=paper,seed=0.safetensors").unlink()
    run(study, "table3", "--report_only")
    text = (study / "valid" / "table3.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| without MRF"))
    assert row.count("missing") == 8
    assert "INCOMPLETE. Missing cells: fusion=mean,recipe=paper,seed=0." in text
    assert next(line for line in text.splitlines() if line.startswith("| DERL")).count("missing") == 0
    run(study, "table3")
    assert (study / "valid" / "table3.md").read_bytes() == (whole / "valid" / "table3.md").read_bytes()


@pytest.mark.parametrize("what", list(reports("smoke")))
def test_a_study_with_no_cell_at_all_reports_so(tmp_path, what, capsys):
    open_study(tmp_path, parse(["--preset", "smoke"]), [])
    assert main([what, "--study", str(tmp_path), "--report_only"]) == 0
    assert "INCOMPLETE. Missing cells" in " ".join(capsys.readouterr().out.split())  # however it is wrapped


@pytest.mark.slow
def test_two_processes_share_a_study(whole, tmp_path):
    study = tmp_path / "study"
    processes = [start(study, "table1", "--smoke") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
    assert (study / "valid" / "table1.csv").read_bytes() == (whole / "valid" / "table1.csv").read_bytes()
    journal = (study / "journal.log").read_text()
    cells = reports("smoke")["table1"].cells(1, True)
    assert [journal.count(f'"{cell.key}"') for cell in cells] == [1] * len(cells)  # each was run once


@pytest.mark.slow
def test_a_killed_process_loses_its_current_cell_at_most(whole, tmp_path):
    study = tmp_path / "study"
    process = start(study, "table1", "--smoke")
    records = study / "cells"
    while not list(records.glob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(random.Random(time.time_ns()).uniform(0, 3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in records.glob("*.safetensors")}
    assert kept
    run(study, "table1", "--smoke")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (study / "valid" / "table1.csv").read_bytes() == (whole / "valid" / "table1.csv").read_bytes()


@pytest.mark.slow
def test_another_option_needs_another_study(whole):
    with pytest.raises(RunError, match=r"this study was started with, --epochs 2, got --epochs 3; .* --study"):
        main(["table1", "--study", str(whole), "--smoke", "--epochs", "3"])


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="expected a new or empty folder, or a study"):
        main(["table1", "--study", str(tmp_path), "--smoke"])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
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


def test_other_data_under_the_same_name_is_refused(tmp_path):
    study, data = tmp_path / "study", tmp_path / "data.safetensors"
    synthetic = make_synthetic(sizes={"train": 8, "valid": 4, "test": 4})
    splits = synthetic.splits
    save_splits(splits, data)
    synthetic.tokenizer.save_pretrained(tmp_path / "encoder")
    options = fill_in(Options(data=str(data), text_encoder=str(tmp_path / "encoder"), preset="smoke"))
    open_study(study, options, [])
    assert open_study(study, options, ["data"]) == options
    save_splits(splits | {"test": replace(splits["test"], labels=-splits["test"].labels)}, data)
    with pytest.raises(RunError, match=r"expected the file that this study was started with .* found another"):
        open_study(study, options, ["data"])


def test_label_counts_are_shown_once_when_a_study_opens(tmp_path, capsys):
    data = tmp_path / "data.safetensors"
    synthetic = make_synthetic(sizes={"train": 8, "valid": 4, "test": 4})
    save_splits(synthetic.splits, data)
    synthetic.tokenizer.save_pretrained(tmp_path / "encoder")
    options = fill_in(Options(data=str(data), text_encoder=str(tmp_path / "encoder")))
    open_study(tmp_path / "study", options, [])
    assert capsys.readouterr().out.count("negative/zero/positive; the paper's Table A.7 has") == 3
    open_study(tmp_path / "study", options, [])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_cell_that_fails_is_named_and_the_others_are_run(whole, tmp_path, monkeypatch, capsys):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for row in ("disentangler=mlp", "fusion=mean"):
        (tmp_path / "cells" / f"{row},recipe=paper,seed=0.safetensors").unlink()
    whole_run = study_run.run_cell

    def run_cell(cell, *rest):
        if "disentangler" in cell.key:
            raise ValueError("nan in row 0")
        return whole_run(cell, *rest)

    monkeypatch.setattr(study_run, "run_cell", run_cell)
    assert main(["table3", "--smoke", "--study", str(tmp_path)]) == 1
    assert (
        "disentangler=mlp,recipe=paper,seed=0 failed and is missing above: ValueError: nan" in capsys.readouterr().err
    )
    text = (tmp_path / "valid" / "table3.md").read_text()
    assert next(line for line in text.splitlines() if line.startswith("| without HED")).count("missing") == 8
    assert next(line for line in text.splitlines() if line.startswith("| without MRF")).count("missing") == 0
    monkeypatch.undo()
    run(tmp_path, "table3")
    assert "missing" not in (tmp_path / "valid" / "table3.md").read_text()


@pytest.mark.slow
def test_a_torn_journal_is_mended(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    with (study / "journal.log").open("a") as journal:
        journal.write('{"op_code":4,"worker')
    (study / "cells" / "fusion=mean,recipe=paper,seed=0.safetensors").unlink()
    for _ in range(2):
        run(study, "table3")
    assert (study / "valid" / "table3.csv").read_bytes() == (whole / "valid" / "table3.csv").read_bytes()


@pytest.mark.slow
def test_an_attempt_that_died_after_its_record_is_told_to_the_journal(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    ledger, cell = Ledger(study), Variant({"recipe": "paper"}).cell(0)
    path = ledger.path(cell)
    path.rename(path.with_suffix(".kept"))
    with ledger.claim(cell) as claim:
        assert claim is not None
        path.with_suffix(".kept").rename(path)
        # no claim.finish: killed here
        state = [trial.state for trial in ledger.attempts(cell)][-1]
    assert state == TrialState.RUNNING
    with ledger.claim(cell) as claim:
        assert claim is None
    assert [trial.state for trial in ledger.attempts(cell)] == [TrialState.COMPLETE] * 2


@pytest.mark.slow
def test_a_figure_of_a_time_with_more_cells_does_not_stay(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    (study / "cells" / "recipe=paper,seed=0.safetensors").unlink()
    run(study, "figure4", "--report_only")
    assert not list((study / "valid").glob("figure4.*"))


@pytest.mark.parametrize("content", ["", "{}", '{"options": {"color": 3}, "data_sha256": null}'])
def test_a_study_file_that_is_not_one_is_named(tmp_path, content):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(RunError, match=r"study\.json: expected a study's options"):
        main(["table1", "--study", str(tmp_path)])


@pytest.mark.slow
def test_compared_systems_join_the_tables_where_they_are_asked_for(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    run(study, "table1", "--models", "almt", "--smoke")
    assert {path.name for path in study.glob("cells/*almt*.safetensors")} == {
        f"model=almt,recipe={recipe},seed=0.safetensors" for recipe in ("paper", "robust")
    }
    for name in ("table1", "table1_by_rate", "table1_differences", "table1_bias"):
        text = (study / "valid" / f"{name}.md").read_text()
        assert "ALMT, robust recipe" in text
        assert "plain, robust recipe" not in text
        assert "INCOMPLETE" not in text


def test_all_models_can_be_asked_for():
    assert models("all") == list(MODELS)
    assert models("emoe,dmd") == ["emoe", "dmd"]
    labels = [label for name in ("derl", "emoe") for label in methods([name])]
    assert labels == [f"{name}, {recipe} recipe" for name in ("DERL", "EMOE") for recipe in ("paper's", "robust")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--models", "lnln,dmb"],
            f"{list(MODELS)[-1]}, or all, got 'dmb'",
        ),
        (["--epochs", "0"], "--epochs expected a finite number of at least 1, got 0"),
        (["--epochs", "abc"], "invalid int value: 'abc'"),
        (["--seeds", "x"], "expected a whole number of at least 1, got 'x'"),
        (["--smoke", "--preset", "mosei"], "leave out --preset"),
        (["--preset", "own"], "train on your own data with derl_mosi.py"),
        (["--preset", "big"], "choose from mosi, mosei, own, smoke"),
    ],
)
def test_bad_options_are_one_clear_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(["table1", "--study", str(tmp_path / "study"), *arguments])
    assert message in capsys.readouterr().err.replace("'mosi', 'mosei', 'own', 'smoke'", "mosi, mosei, own, smoke")
    assert not (tmp_path / "study").exists()


def test_data_that_cannot_be_read_can_be_corrected(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.pkl"):
        main(["table1", "--study", str(tmp_path / "study"), "--data", str(tmp_path / "nowhere.pkl")])
    with pytest.raises(DataError, match=r"elsewhere\.pkl"):
        main(["table1", "--study", str(tmp_path / "study"), "--data", str(tmp_path / "elsewhere.pkl")])


def test_a_text_encoder_that_is_not_there_can_be_corrected(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("nowhere", "elsewhere"):
        with pytest.raises(RunError, match=rf"--text_encoder .*{name}"):
            main(["table1", "--smoke", "--study", str(tmp_path / "study"), "--text_encoder", str(tmp_path / name)])


@pytest.mark.slow
def test_a_broken_record_is_named(whole, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    path = study / "cells" / "recipe=paper,seed=0.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecordError, match="expected the file of a finished cell"):
        main(["table3", "--study", str(study), "--report_only"])
