"""The command as a user runs it, at tiny sizes on invented stays."""

import io
import json
import sys

import pytest
from invented_stays import write_npz, write_text
from rich.console import Console

import icu_mortality
from icu import experiment
from icu.experiment import MODELS, key
from icu.ledger import Ledger
from icu.missing import CONDITIONS
from icu.report import PUBLISHED, SHORT, interval, print_report


@pytest.fixture
def data(tmp_path):
    return write_npz(tmp_path / "stays.npz")


@pytest.fixture
def command(monkeypatch, capsys, data):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["examples/icu_mortality.py", "--data", str(data), *map(str, arguments)])
        assert icu_mortality.main() == 0
        return capsys.readouterr().out

    return run


def never(*arguments):
    raise AssertionError("a training began")


def test_quick_prints_a_table_of_three_models_and_the_published_ones_in_80_columns(command):
    printed = command("--quick", "--epochs", 1)
    assert [name for name in ("modx", "late", "boosting", *PUBLISHED, "AUROC", "ECE") if name not in printed] == []
    assert "valid stays" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_report_of_all_models_fits_into_80_columns():
    scores = {name: {"auroc": 81.25, "auprc": 50.5, "brier": 10.0, "ece": 2.0} for name in CONDITIONS}
    console = Console(width=80, record=True, file=io.StringIO())
    runs = {model: [{"valid": scores}, {"valid": scores}] for model in MODELS}
    print_report(runs, "valid", console)
    printed = console.export_text()
    assert "…" not in printed
    assert [model for model in MODELS if printed.count(model) < 3] == []
    assert "81.2 ± 0.0" in printed
    assert "+0.0 ± 0.0" in printed


def test_the_test_stays_are_read_only_when_asked_for(command, tmp_path, monkeypatch):
    out = tmp_path / "icu.jsonl"
    command("--models", "logistic", "--splits", 1, 2, "--out", out)
    assert ["test" in json.loads(line) for line in out.read_text().splitlines()] == [False, False]
    printed = command("--models", "logistic", "--splits", 1, 2, "--out", out, "--test")
    assert "test stays" in printed
    assert ["test" in json.loads(line) for line in out.read_text().splitlines()] == [False, False, True, True]


def test_a_record_has_every_condition_the_settings_and_the_place(command, tmp_path):
    out = tmp_path / "icu.jsonl"
    command("--models", "late", "--splits", 3, "--epochs", 1, "--out", out)
    record = json.loads(out.read_text())
    assert list(record["valid"]) == list(CONDITIONS)
    assert record["valid"]["complete"].keys() == {"auroc", "auprc", "brier", "ece"}
    assert (record["model"], record["split"], record["seed"], record["epochs"]) == ("late", 3, 0, 1)
    assert {"learning_rate", "commit", "processor", "seconds"} <= record.keys()


def test_a_second_run_trains_nothing_and_prints_the_same(command, tmp_path, monkeypatch):
    arguments = ("--models", "logistic", "boosting", "--splits", 1, 2, "--out", tmp_path / "icu.jsonl")
    first = command(*arguments)
    monkeypatch.setattr(icu_mortality, "run", never)
    assert command(*arguments) == first


def test_other_settings_are_other_runs():
    assert key("late", 1, 0, epochs=3, learning_rate=1e-3) != key("late", 1, 0, epochs=4, learning_rate=1e-3)
    assert key("boosting", 1, 0, epochs=3, learning_rate=1e-3) == key("boosting", 1, 0, epochs=4, learning_rate=1e-2)


def test_a_line_that_was_cut_off_is_run_again(tmp_path):
    path = tmp_path / "icu.jsonl"
    whole = {"model": "late", "split": 1, "seed": 0, "valid": {}}
    path.write_text(json.dumps(whole) + "\n" + '{"model": "la')
    ledger = Ledger(path)
    ledger.add(whole | {"split": 2})
    assert [record["split"] for record in Ledger(path).records] == [1, 2]


@pytest.mark.parametrize("content", ["notes\n", "notes", "[1]\n", '{"a": 1}\n'])
def test_a_file_of_something_else_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"notes.txt, line 1: not a record of this example; choose another file"):
        Ledger(path)
    assert path.read_text() == content


def test_tuning_prints_every_learning_rate_and_reads_no_test_stay(command, monkeypatch):
    scored = []
    score = experiment.score
    monkeypatch.setattr(
        experiment, "score", lambda died, probability: scored.append(len(died)) or score(died, probability)
    )
    printed = command("--tune", "--models", "late", "boosting", "--splits", 1, "--epochs", 1)
    assert printed.count("late at ") == len(icu_mortality.LEARNING_RATES)
    assert len(scored) == len(CONDITIONS) * len(icu_mortality.LEARNING_RATES)


def test_a_folder_of_text_files_works_too(tmp_path, monkeypatch, capsys):
    folder = write_text(tmp_path / "text")
    arguments = ["--data", str(folder), "--models", "logistic", "--splits", "1"]
    monkeypatch.setattr(sys, "argv", ["icu_mortality.py", *arguments])
    assert icu_mortality.main() == 0
    assert "60 stays" in capsys.readouterr().out


def test_every_condition_has_a_heading_and_every_network_a_learning_rate():
    assert list(SHORT) == list(CONDITIONS)
    assert set(icu_mortality.CHOSEN) == {name for name in MODELS if key(name, 1, 0, 1, 0.1).get("epochs")}


def test_the_interval_is_that_of_the_mean():
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert low < 3 < high
    assert (low, high) == pytest.approx((1.8, 4.2), abs=0.2)
    assert interval([2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --data"),
        (["--data", ".", "--splits", "6"], "expected a number from 1 to 5, got '6'"),
        (["--data", ".", "--models", "best"], "invalid choice: 'best'"),
        (["--data", ".", "--epochs", "0"], "expected a whole number of at least 1, got '0'"),
        (["--data", ".", "--out", "nowhere/icu.jsonl"], "expected a file in a folder that exists"),
        (["--data", ".", "--tune", "--test"], "--tune reads validation stays only; leave out --test"),
    ],
)
def test_a_bad_option_is_one_clear_line_before_any_training(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["icu_mortality.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        icu_mortality.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [(".", "has no Outcomes-*.txt"), ("nowhere", "does not exist")])
def test_data_that_is_not_what_it_should_be_is_one_clear_line(name, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["icu_mortality.py", "--data", str(tmp_path / name)])
    assert icu_mortality.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
