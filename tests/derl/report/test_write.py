"""Tables, files and pictures of a run."""

import copy
import csv
import io
import json
import math

import pytest
from rich.console import Console

from derl.report.tables import Table, inter_modal_table, intra_modal_table, warnings
from derl.report.write import print_table, write_report

RATES = [rate / 10 for rate in range(10)]
NAN = math.nan


def metrics(mae=1.0, corr=0.5, accuracy=0.7):
    names = ("acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc5", "acc7")
    return {"mae": mae, "corr": corr} | {name: accuracy + index / 100 for index, name in enumerate(names)}


def make_results(modalities=("text", "audio"), synthetic=True, routing=True):
    conditions = [[name] for name in modalities] + ([list(modalities)] if len(modalities) > 1 else [])
    values = {
        "DERL": metrics(),
        "all negative": metrics(1.5, NAN, 0.5),
        "all positive": metrics(2.0, NAN, 0.4),
        "training mean": metrics(1.4, NAN, 0.4),
    }
    if synthetic:
        values["best possible"] = metrics(0.8, 0.8, 0.8)
    views = [f"{name} {kind}" for kind in ("private", "shared") for name in modalities]
    return {
        "model": "DERL",
        "seed": 3,
        "command": "python examples/derl_mosi.py",
        "machine": "a machine",
        "versions": {"modx": "0.1.0"},
        "data": {
            "name": "synthetic MOSI" if synthetic else "some.pkl",
            "synthetic": synthetic,
            "modalities": list(modalities),
            "sizes": {"train": 30, "valid": 10, "test": 20},
        },
        "checkpoint": {"epoch": 7.0, "criterion": "MAE on validation at r = 0.5", "value": 0.9},
        "seconds": {"train": 10.0, "evaluate": 2.0},
        "task": "sentiment",
        "classes": ["-3", "-2", "-1", "0", "+1", "+2", "+3"],
        "constants": ["all negative", "all positive", "training mean"],
        "pattern": "frames",
        "dropped_modality": "erased",
        "partly_missing": "impute",
        "missing_before": {},
        "nothing_left": {},
        "diagnostics": {"text": {"spread": 0.8, "commonest_class": 1.0, "commonest_share": 0.3}},
        "intra_modal": {
            "rates": RATES,
            "rows": {name: [copy.copy(value) for _ in RATES] for name, value in values.items()},
            "average": values,
        },
        "inter_modal": {
            "conditions": conditions,
            "rows": {name: [copy.copy(value) for _ in conditions] for name, value in values.items()},
            "average_incomplete": values,
            "average_all": values,
        },
        "routing": {
            "rates": RATES,
            "fusion": {view: [1 / len(views)] * 10 for view in views},
            "experts": {},
            "entropy": [1.0] * 10,
        }
        if routing
        else None,
        "confusion": {"rates": [0.1, 0.5, 0.9], "matrices": [[[1] * 7] * 7] * 3},
        "intervals": make_intervals([*(f"r={rate}" for rate in RATES), *map("+".join, conditions)]),
    }


def make_intervals(conditions):
    return {
        "conditions": conditions,
        "levels": [0.5, 0.9],
        "calibration_samples": [10] * len(conditions),
        "test_samples": [20] * len(conditions),
        "widths": [[1.0 + index / 5, 2.0 + index / 5] for index in range(len(conditions))],
        "coverage": [[0.5, 0.95] for _ in conditions],
        "abstention": {
            "limits": [2.0, 4.4],
            "answered": [0.25, 1.0],
            "coverage": [0.96, 0.95],
            "error": [0.5, 0.75],
        },
    }


PREDICTIONS = [{"id": "a,b", "label": 1.0, "r=0.0": 0.25}, {"id": "c", "label": -1.0, "r=0.0": -0.5}]


def report(results, folder, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    write_report(results, PREDICTIONS, folder, console)
    return console.export_text()


def test_writes_strict_json_the_predictions_and_every_picture(tmp_path):
    report(make_results(), tmp_path)
    text = (tmp_path / "results.json").read_text()
    parsed = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert parsed["intra_modal"]["rows"]["training mean"][0]["corr"] is None
    assert parsed["intra_modal"]["rows"]["DERL"][0] == metrics()
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file))) == {"id": "a,b", "label": "1.0", "r=0.0": "0.25"}
    for name in ("robustness", "routing", "confusion", "reliability"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"![{name}]({name}.png)" in (tmp_path / "report.md").read_text()


def test_percent_pairs_and_undefined_correlations_read_as_the_field_prints_them(tmp_path):
    results = make_results()
    assert intra_modal_table(results).rows[0] == [
        "0.0",
        "1.000",
        "0.500",
        "70.00/71.00",
        "72.00/73.00",
        "74.00",
        "75.00",
    ]
    constant = next(row for row in intra_modal_table(results).rows if row[0] == "training mean")
    assert constant[2] == "-"
    assert "Corr is not defined" in " ".join(report(results, tmp_path).split())


def test_the_terminal_fits_eighty_columns_and_holds_every_row(tmp_path):
    text = report(make_results(modalities=("text", "audio", "vision")), tmp_path)
    assert max(len(line.rstrip()) for line in text.splitlines() if str(tmp_path) not in line) <= 80
    for name in ("average, incomplete", "average, all", "best possible", "all negative", "text+audio+vision"):
        assert name in text
    assert "…" not in text


def test_a_table_wider_than_the_terminal_is_shown_in_parts_each_with_its_labels():
    header = ["method", *(f"column {index:02}" for index in range(12))]
    rows = [
        [label, *(f"{label[0]}{index:02}.{'0' * 10}" for index in range(12))] for label in ("first row", "second row")
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    print_table(console, Table("Wide", header, rows, {1}))
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for word in (*header[1:], *rows[0][1:], *rows[1][1:], "Wide"):
        assert text.count(word) == 1, word
    assert text.count("first row") == text.count("second row") == text.count("method") > 1


def test_a_last_part_has_two_columns_and_no_empty_rows():
    header = ["method", *(f"column {index}" for index in range(4))]
    rows = [["ours", *(f"{index}" * 15 for index in range(4))], ["printed", "5" * 15, "6" * 15, "", ""]]
    console = Console(width=80, record=True, file=io.StringIO())
    print_table(console, Table("Wide", header, rows, {1}))
    first, last = console.export_text().strip().split("\n\n")
    assert ("column 1" in first, "column 2" in first, "column 2" in last) == (True, False, True)
    assert ("printed" in first, "printed" in last) == (True, False)
    assert (first.count("─" * 20), last.count("─" * 20)) == (4, 2)  # rules of 54 cells: below the header, and row 1


def test_synthetic_data_is_called_so_and_real_data_is_not(tmp_path):
    assert "SYNTHETIC" in report(make_results(synthetic=True), tmp_path)
    assert "SYNTHETIC" not in report(make_results(synthetic=False), tmp_path)
    assert "best possible" not in report(make_results(synthetic=False), tmp_path)


def test_a_collapse_is_named(tmp_path):
    results = make_results()
    assert warnings(results) == []
    results["intra_modal"]["rows"]["DERL"][9] = metrics(mae=1.4)
    results["inter_modal"]["rows"]["DERL"][1] = metrics(accuracy=0.5)
    assert warnings(results) == [
        "No better than the best constant prediction (MAE): r = 0.9.",
        "No better than the best constant prediction (Acc-2, negative against non-negative): audio.",
        "No better than the best constant prediction (Acc-2, negative against positive): audio.",
    ]
    assert "No better than the best constant prediction (MAE): r = 0.9." in report(results, tmp_path)


@pytest.mark.parametrize("modalities", [("text",), ("a", "b", "c", "d")])
def test_any_number_of_modalities_and_a_model_without_routers(modalities, tmp_path):
    report(make_results(modalities=modalities), tmp_path)
    (tmp_path / "routing.png").unlink()
    report(make_results(modalities=modalities, routing=False), tmp_path)
    assert not (tmp_path / "routing.png").exists()
    assert len(inter_modal_table(make_results(modalities=modalities)).header) == 7


def test_intervals_are_reported_by_condition(tmp_path):
    text = report(make_results(), tmp_path)
    assert "90 % intervals, calibrated on validation: 2.00 wide (r=0.0) to 4.40 (text+audio)" in " ".join(text.split())
    assert "they hold for 95 to 95 % of the test samples" in " ".join(text.split())
    assert "| r=0.0 | 2.00 | 95.0 | 10 | 20 |" in (tmp_path / "report.md").read_text()


def test_what_abstaining_leaves_is_reported(tmp_path):
    report(make_results(), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "abstains where its 90 % intervals are larger (`derl_predict.py --abstain`)" in text
    assert "| width, at most | answered (%) | coverage (%) | MAE |" in text
    assert "| 2.00 | 25.0 | 96.0 | 0.50 |\n| 4.40 | 100.0 | 95.0 | 0.75 |" in text


def test_an_interval_of_too_few_samples_is_unbounded(tmp_path):
    results = make_results()
    results["intervals"]["widths"][10][1], results["intervals"]["calibration_samples"][10] = math.inf, 3
    results["intervals"]["coverage"][11][1], results["intervals"]["test_samples"][11] = NAN, 0
    assert "to unbounded (text)" in " ".join(report(results, tmp_path).split())
    assert "| text | unbounded | 95.0 | 3 | 20 |" in (tmp_path / "report.md").read_text()
    assert "| audio | 4.20 | - | 10 | 0 |" in (tmp_path / "report.md").read_text()


def test_a_coverage_that_chance_does_not_explain_is_warned_of():
    results = make_results()
    results["intervals"]["coverage"][3][1] = 0.3
    assert warnings(results)[-1].endswith("the test split differs from the validation split: r=0.3 (30 %).")
    results["intervals"]["coverage"][3][1] = 0.6
    assert warnings(results) == []


def test_a_file_name_is_printed_as_it_is(tmp_path):
    results = make_results(synthetic=False)
    results["data"]["name"] = "a[/b]$x_{$ :smile:.pkl"
    assert "a[/b]$x_{$ :smile:.pkl" in report(results, tmp_path)


def test_a_folder_that_cannot_be_written_is_named_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(OSError, match=r"results\.json"):
        write_report(make_results(), PREDICTIONS, tmp_path / "gone", Console(quiet=True))
    assert not (tmp_path / "gone").exists()


def test_a_collapse_is_named_with_its_answer():
    results = make_results()
    assert not any("Collapsed" in line for line in warnings(results))
    results["diagnostics"]["audio"] = {"spread": 0.02, "commonest_class": 1.0, "commonest_share": 0.99}
    assert (
        "Collapsed to nearly the same score for every sample: "
        "audio (99 % in class +1, standard deviation 0.02 of the labels')."
    ) in warnings(results)


def test_another_pattern_is_in_the_title():
    results = make_results()
    results["pattern"] = "bursts"
    assert intra_modal_table(results).title == "DERL: input missing at rate r, pattern bursts"
