"""The command of the actions example, its ledger and its report."""

import json
import sys

import numpy as np
import pytest

import actions_mhad
from actions.comparison import compare, score, summarize
from actions.conditions import AVERAGED, CONDITIONS, LOST, PUBLISHED
from actions.ledger import Ledger, Record
from actions.protocol import MODELS


@pytest.fixture
def masks(clips, tmp_path):
    keep = np.random.default_rng(0).random((len(clips.action), 24)) > 0.3
    np.savez(tmp_path / "masks.npz", keep_10=keep, keep_30=keep, keep_50=keep)
    return tmp_path / "masks.npz"


@pytest.fixture
def run(monkeypatch, capsys, file, tmp_path):
    def command(*arguments):
        words = ["examples/actions_mhad.py", "--data", str(file), "--out", str(tmp_path / "ledger.jsonl"), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        assert actions_mhad.main() == 0
        return capsys.readouterr().out

    return command


def record(model="experts", seed=0, split="fold 7", value=50.0, **changed):
    accuracy = dict.fromkeys((*CONDITIONS, *PUBLISHED), value) | changed
    return Record(model, seed, split, {"epochs": 1}, accuracy, 10, 1.0, "abc", "a machine")


def test_a_quick_look_trains_ours_and_late_fusion_and_says_what_it_is(run, tmp_path):
    printed = run("--quick", "--epochs", "1")
    assert "A quick look" in printed
    assert "experts and the best plain model, late fusion" in printed
    assert [condition for condition in CONDITIONS if condition not in printed] == []
    assert max(map(len, printed.splitlines())) <= 80
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [(line["model"], line["split"]) for line in lines] == [("experts", "fold 7"), ("late fusion", "fold 7")]
    assert lines[0].keys() == set(Record._fields)


def test_a_second_run_trains_only_what_is_new(run, monkeypatch):
    run("--models", "SVM", "--folds", "7", "--seeds", "2")
    asked, fit = [], actions_mhad.fit
    monkeypatch.setattr(actions_mhad, "fit", lambda *task: asked.append(task[:3]) or fit(*task))
    run("--models", "SVM", "--folds", "7", "5", "--seeds", "2")
    assert asked == [("SVM", 0, "fold 5"), ("SVM", 1, "fold 5")]
    run("--models", "SVM", "--folds", "7", "--epochs", "3")
    assert asked[2:] == [("SVM", 0, "fold 7")]  # other settings, another record


def test_only_the_flag_reads_even_subjects(run, clips, tmp_path):
    run("--models", "SVM", "--folds", "7")
    run("--models", "SVM", "--test")
    first, second = (json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert (first["split"], second["split"]) == ("fold 7", "test")


def test_folds_give_the_same_whatever_even_subjects_did(run, arrays, file, tmp_path):
    run("--models", "SVM", "--folds", "7")
    rows = np.repeat(arrays["subject"] % 2 == 0, arrays["inertial_lengths"])
    np.savez(file, **arrays | {"inertial": np.where(rows[:, None], np.nan, arrays["inertial"])})
    (tmp_path / "ledger.jsonl").rename(tmp_path / "before.jsonl")
    run("--models", "SVM", "--folds", "7")
    before, after = (json.loads((tmp_path / f"{name}.jsonl").read_text()) for name in ("before", "ledger"))
    assert before["accuracy"] == after["accuracy"]


def test_with_masks_published_rows_stand_in_the_table(run, masks):
    printed = run("--models", "SVM", "--folds", "7", "--masks", str(masks))
    row = next(line for line in printed.splitlines() if "SafeSense" in line)
    assert row.split() == ["SafeSense", "96.3", "94.3", "93.0", "92.6", "77.7", "89.8"]
    assert max(map(len, printed.splitlines())) <= 80


def test_ctrl_c_says_how_to_continue(run, monkeypatch, capsys):
    def stop(*task):
        raise KeyboardInterrupt

    monkeypatch.setattr(actions_mhad, "fit", stop)
    with pytest.raises(AssertionError):
        run("--models", "SVM")
    assert "run the command again to continue from" in capsys.readouterr().err


def test_the_report_holds_five_seeds_of_every_model_in_80_columns(run, tmp_path, masks):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    settings = {"epochs": actions_mhad.EPOCHS, "learning_rate": 2e-3, "published": True}
    for seed in range(5):
        for number, name in enumerate(MODELS):
            value = 100.0 - number - seed if name in MODELS else 0.0
            ledger.add(record(name, seed, "test", value)._replace(settings=settings))
    printed = run("--seeds", "5", "--test", "--masks", str(masks))
    assert max(map(len, printed.splitlines())) <= 80
    assert "98.0±1.6" in printed
    assert "+1.0 [+1.0, +1.0]*" in printed


def test_a_ledger_keeps_records_and_names_a_line_that_is_none(tmp_path):
    path = tmp_path / "ledger.jsonl"
    first = record()
    Ledger(path).add(first)
    assert Ledger(path).find("experts", 0, "fold 7", {"epochs": 1}) == first
    assert Ledger(path).find("experts", 1, "fold 7", {"epochs": 1}) is None
    path.write_text(path.read_text() + '{"model": "experts"\n')
    with pytest.raises(ValueError, match=r"a record on line 2 of .*Remove the line"):
        Ledger(path)


def test_means_are_over_the_conditions_that_they_name():
    one = record(value=0.0, **{"complete": 14.0, LOST[0]: 60.0})
    assert score(one, "mean") == pytest.approx(1.0)
    assert score(one, "frames lost") == pytest.approx(10.0)
    assert len(AVERAGED) == 14


def test_spread_is_over_seeds_after_the_mean_over_folds():
    found = [record(seed=seed, split=split, value=v) for seed, split, v in [(0, "a", 10), (0, "b", 30), (1, "a", 24)]]
    assert summarize(found, "complete") == "22.0±2.8"
    assert summarize(found[:2], "complete") == "20.0"


def test_differences_are_paired_by_seed_and_split():
    first = [record(seed=seed, value=float(seed + 1)) for seed in range(5)]
    second = [record("late fusion", seed=seed, value=float(seed)) for seed in (4, 2, 1, 0)]
    assert compare(first, second, "mean") == (1.0, (1.0, 1.0))
    assert compare(first[:1], second, "mean") == (1.0, None)
    assert compare(first[3:4], second, "mean") is None


def test_the_interval_is_that_of_scipys_bootstrap():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).normal(1, 2, 20)
    first = [record(seed=seed, value=50 + value) for seed, value in enumerate(values)]
    found = compare(first, [record(seed=seed) for seed in range(20)], "complete")
    expected = bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    assert found.interval == pytest.approx(tuple(expected), abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "expected a whole number of at least 1, got '0'"),
        (["--learning_rate", "none"], "expected a number above 0, got 'none'"),
        (["--models", "tree"], "invalid choice: 'tree'"),
        (["--test", "--quick"], "leave out --folds and --quick"),
        (["--folds", "9"], "clips of odd subjects, and of those that 'fold 9' leaves out"),
        (["--folds", "2"], "clips of odd subjects, and of those that 'fold 2' leaves out"),
        (["--masks", "nowhere.npz"], "--masks expected an .npz file, found none at 'nowhere.npz'"),
        (["--out", "nowhere/x.jsonl"], "expected a file in a folder that exists, got 'nowhere/x.jsonl'"),
    ],
)
def test_a_bad_option_is_one_clear_line_before_any_training(arguments, message, monkeypatch, capsys, file, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["examples/actions_mhad.py", "--data", str(file), *arguments])
    with pytest.raises(SystemExit) as stopped:
        actions_mhad.main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
