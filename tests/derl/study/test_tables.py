"""Cells of the tables against figures computed here, from a study of random scores."""

import io
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from derl.evaluate.conditions import PATTERN_RATES, RATES, pattern_conditions, table_conditions
from derl.report.write import print_table
from derl.study import pictures, robustness, tables
from derl.study.averages import R
from derl.study.cells import ABLATIONS, DERL, METHODS, PAPER, ROBUST, Variant, trained_on
from derl.study.command import reports
from derl.study.ledger import CELLS, Ledger, Record
from derl.study.view import View
from derl.train.options import parse
from modx.missing import PATTERNS, drop_block, register_pattern

EPOCHS, SEEDS, SIZES = 3, 2, {"train": 50, "valid": 30, "test": 40}
CONDITIONS = [condition.name for condition in table_conditions(["text", "audio"])]
PATTERN_NAMES = [condition.name for condition in pattern_conditions()]


def make_record(cell, options, rng, labels):
    arrays = {
        split: (0.5 * labels[split] + rng.normal(0, 1, (EPOCHS, len(CONDITIONS), SIZES[split]))).astype(np.float32)
        for split in ("valid", "test")
    }
    arrays["patterns"] = (0.3 * labels["test"] + rng.normal(0, 1, (len(PATTERN_NAMES), 40))).astype(np.float32)
    arrays |= {f"labels_{split}": values for split, values in labels.items()}
    diagnosis = {"spread": 0.5, "commonest_class": 1.0, "commonest_share": 0.4, "fusion_entropy": 0.9}
    collapsed = {"spread": 0.01, "commonest_class": -1.0, "commonest_share": 1.0, "fusion_entropy": 0.9}
    facts = {
        "conditions": CONDITIONS,
        "pattern_conditions": PATTERN_NAMES,
        "rates": list(RATES),
        "modalities": ["text", "audio"],
        "data": {"name": "synthetic MOSI", "synthetic": True, "sizes": SIZES},
        "value": 1.0,
        "seconds_an_epoch": 4.0 + cell.seed,
        "samples_a_second": 100.0,
        "peak_memory": 2.0**30,
        "parameters": 5000,
        "text_parameters": 2000,
        "diagnostics": {name: collapsed if name == "audio" and cell.seed else diagnosis for name in CONDITIONS},
        "routing": {
            "fusion": {"text private": [0.7] * 10, "audio private": [0.3] * 10},
            "experts": {"text": {"private 1": [0.1 * i for i in range(10)]}, "audio": {"private 1": [0.2] * 10}},
        },
        "machine": "a machine",
        "options": vars(options).copy(),
    }
    return Record(facts, arrays)


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / CELLS).mkdir()
    ledger, study = Ledger(folder), parse([])
    rng = np.random.default_rng(0)
    labels = {split: rng.choice([-2.0, -0.6, 0.0, 1.4, 2.2], size).astype(np.float32) for split, size in SIZES.items()}
    variants = {variant.cell(0).key: variant for variant in (*METHODS.values(), *trained_on().values())}
    for variant in variants.values():
        for seed in range(SEEDS):
            cell = variant.cell(seed)
            make_record(cell, cell.options(study), rng, labels).save(ledger.path(cell))
    for seed in range(SEEDS):
        best = {
            name: dict.fromkeys(("acc2_has0", "acc2_non0", "f1_has0", "f1_non0", "acc5", "acc7"), 0.9)
            | {"mae": 0.1 + 0.01 * index + seed, "corr": 0.9 - 0.01 * index}
            for index, name in enumerate(CONDITIONS + PATTERN_NAMES)
        }
        Record({"best_possible": best, "value": 0.1}, {}).save(
            ledger.path(Variant({"model": "best possible"}).cell(seed))
        )
    return View(ledger, SEEDS, "valid", study)


def empty(folder, *options):
    """A study of which nothing has run."""
    return View(Ledger(folder), 1, "valid", parse(list(options)))


def chosen(view, variant, seed):
    """The epoch of a cell, by hand."""
    record = view.ledger.record(variant.cell(seed))
    if record.facts["options"]["select_metric"] == "last":
        return record, EPOCHS - 1
    row = CONDITIONS.index("r=0.5")
    errors = np.abs(record.arrays["valid"][:, row] - record.arrays["labels_valid"]).mean(1)
    return record, int(errors.argmin())


def maes(view, variant, conditions):
    """MAE of every seed, averaged over conditions, by hand."""
    values = []
    for seed in range(SEEDS):
        record, epoch = chosen(view, variant, seed)
        rows = [CONDITIONS.index(name) for name in conditions]
        values.append(np.abs(record.arrays["test"][epoch, rows] - record.arrays["labels_test"]).mean())
    return values


def shown(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def row_of(sheet, label):
    (found,) = [row for row in sheet.table.rows if row[0] == label]
    return dict(zip(sheet.table.header, found, strict=True))


@pytest.mark.parametrize("name", [name for name, report in reports("mosi").items() if report.sheets is not None])
def test_every_cell_is_beside_its_label_on_a_terminal_of_80_columns(view, name):
    for sheet in reports("mosi")[name].sheets(view):
        console = Console(width=80, file=io.StringIO())
        print_table(console, sheet.table)
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        for row in sheet.table.rows:
            beside = [line for line in lines if line.startswith(row[0][:10])]
            assert [cell for cell in row[1:] if not any(cell in line for line in beside)] == [], row[0]


@pytest.mark.parametrize("label", list(METHODS))
def test_table1_is_the_average_over_r(view, label):
    sheet = tables.table1(view)[0]
    values = maes(view, METHODS[label], R)
    assert row_of(sheet, label)["MAE"] == shown(values)
    best = [np.mean([0.1 + 0.01 * index + seed for index in range(10)]) for seed in range(SEEDS)]
    assert row_of(sheet, label)["MAE − best"] == shown([a - b for a, b in zip(values, best, strict=True)])


def test_bias_is_the_mean_error_and_what_the_mae_owes_to_it(view):
    expected = {"bias, validation": [], "bias, test": [], "MAE, validation": [], "MAE, test, without bias": []}
    for seed in range(SEEDS):
        record, epoch = chosen(view, METHODS[ROBUST], seed)
        errors = {
            split: record.arrays[split][epoch, : len(R)] - record.arrays[f"labels_{split}"]
            for split in SIZES
            if split != "train"
        }
        expected["bias, validation"].append(errors["valid"].mean())
        expected["bias, test"].append(errors["test"].mean())
        expected["MAE, validation"].append(np.abs(errors["valid"]).mean())
        expected["MAE, test, without bias"].append(np.mean([np.abs(row - row.mean()).mean() for row in errors["test"]]))
    row = row_of(tables.table1(view)[3], ROBUST)
    assert row["MAE, test"] == shown(maes(view, METHODS[ROBUST], R))
    assert {name: row[name] for name in expected} == {name: shown(values) for name, values in expected.items()}


def test_acc2_is_scikit_learns(view):
    accuracies = {"has0": [], "non0": []}
    for seed in range(SEEDS):
        record, epoch = chosen(view, PAPER, seed)
        labels = record.arrays["labels_test"]
        scores = record.arrays["test"][epoch, : len(R)]
        accuracies["has0"].append(np.mean([accuracy_score(labels >= 0, row >= 0) for row in scores]))
        some = labels != 0
        accuracies["non0"].append(np.mean([accuracy_score(labels[some] > 0, row[some] > 0) for row in scores]))
    cell = row_of(tables.table1(view)[0], DERL)["Acc-2"]
    expected = [100 * part for values in accuracies.values() for part in (np.mean(values), np.std(values, ddof=1))]
    assert [float(part) for part in re.split(" ± | / ", cell)] == pytest.approx(expected, abs=0.006)


def test_table1_by_rate_has_each_rate_and_its_distance(view):
    sheet = tables.table1(view)[1]
    for index, rate in enumerate(RATES):
        values = maes(view, PAPER, [f"r={rate}"])
        assert row_of(sheet, f"{DERL}, {rate:.1f}")["MAE"] == shown(values)
        away = [value - (0.1 + 0.01 * index + seed) for seed, value in enumerate(values)]
        assert row_of(sheet, f"{DERL}, {rate:.1f}")["MAE − best"] == shown(away)


def test_differences_are_between_the_two_rows_they_name(view):
    sheet = tables.table1(view)[2]
    row = row_of(sheet, f"{ROBUST} − {DERL}")
    robust, paper = np.mean(maes(view, METHODS[ROBUST], R)), np.mean(maes(view, PAPER, R))
    assert row["MAE"].startswith(f"{robust - paper:+.3f} [")
    assert row["MAE, relative"] == f"{100 * (robust - paper) / paper:+.2f} %"


def test_table2_has_each_case_and_both_averages(view):
    sheet = tables.table2(view)[0]
    for label, conditions in {
        "text": ["text"],
        "audio": ["audio"],
        "text+audio": ["r=0.0"],
        "average of 2 incomplete": ["text", "audio"],
        "average of all 3": ["text", "audio", "r=0.0"],
    }.items():
        assert row_of(sheet, f"{DERL}, {label}")["MAE"] == shown(maes(view, PAPER, conditions)), label


def test_f1_by_available_modalities_is_scikit_learns(view):
    scores = {"t": [], "a": [], "t+a": []}
    for seed in range(SEEDS):
        record, epoch = chosen(view, PAPER, seed)
        labels = record.arrays["labels_test"]
        some = labels != 0
        for case, name in zip(scores, ("text", "audio", "r=0.0"), strict=True):
            found = record.arrays["test"][epoch, CONDITIONS.index(name)]
            scores[case].append(100 * f1_score(labels[some] > 0, found[some] > 0, average="weighted"))
    scores["avg. of 2"] = np.mean([scores["t"], scores["a"]], axis=0)
    scores["avg. of 3"] = np.mean([scores["t"], scores["a"], scores["t+a"]], axis=0)
    for sheet, label in ((tables.table2(view)[1], DERL), (tables.table4(view)[0], "DERL")):
        row = row_of(sheet, label)
        for case, values in scores.items():
            expected = [np.mean(values), np.std(values, ddof=1)]
            assert [float(part) for part in row[case].split(" ± ")] == pytest.approx(expected, abs=0.006), case
        assert row["printed avg."] == ""


def test_the_papers_f1_is_averaged_over_the_cases_at_hand(view):
    row = row_of(tables.table2(view)[1], "printed: DERL")
    assert list(row.values()) == ["printed: DERL", "84.18", "50.52", "84.18", "67.35", "72.96", "69.77"]


def test_modalities_that_the_paper_does_not_have_are_no_columns_of_its_rows(tmp_path, monkeypatch):
    view = empty(tmp_path, "--data", "a.pkl")
    labels = {f"labels_{split}": np.ones(2, np.float32) for split in SIZES}
    monkeypatch.setattr(view, "any_record", lambda: Record({"modalities": ["text", "face"]}, labels))
    row = row_of(tables.table4(view)[0], "printed: DERL")
    assert row == {
        "": "printed: DERL",
        "t": "84.18",
        "face": "-",
        "text+face": "-",
        "avg. of 2": "-",
        "avg. of 3": "-",
        "printed avg.": "69.77",
    }


@pytest.mark.parametrize(
    ("preset", "derl", "corrkd"),
    [("mosi", ["67.37", "69.77", "69.77"], "74.69"), ("mosei", ["72.81", "74.63", "74.63"], "74.02")],
)
def test_table2_has_the_papers_average_of_the_same_six_cases(tmp_path, preset, derl, corrkd):
    sheet = tables.table2(empty(tmp_path, "--data", "a.pkl", "--preset", preset))[1]
    names = ["avg. of 6", "avg. of 7", "printed avg."]
    assert [row_of(sheet, "printed: DERL")[name] for name in names] == derl
    assert row_of(sheet, "printed: CorrKD")["avg. of 6"] == corrkd


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (tables.table1, "MISA Self-MM MMIM TFR-Net CENET ALMT DMD* LNLN EMOE* DERL"),
        (tables.table3, "w/o HED, w/o MLCR, w/ L_rec^1, w/ L_rec^2, w/ L_rec^3, w/o MRF, DERL"),
        (tables.table4, "w/o HED, w/o MLCR, w/ L_rec^1, w/ L_rec^2, w/ L_rec^3, w/o MRF, DERL"),
        (tables.table5, "r = 0.1, r = 0.3, r = 0.5, r = 0.7, r = 0.9"),
        (tables.table6, "TFR-Net DMD LNLN DERL"),
        (tables.options, "DERL"),
    ],
)
def test_the_papers_rows_stand_beside_ours(view, table, names):
    sheet = table(view)[0]
    rows = [row[0].removeprefix("printed: ") for row in sheet.table.rows if row[0].startswith("printed: ")]
    assert rows == (names.split(", ") if ", " in names else names.split())
    assert all(len(row) == len(sheet.table.header) for row in sheet.table.rows)
    assert "The data here is synthetic" in sheet.note


def test_the_papers_metrics_are_shown_as_printed(view):
    row = list(row_of(tables.table1(view)[0], "printed: DERL").values())[1:7]
    assert row == ["1.038", "0.530", "72.19 / 73.69", "71.95 / 73.57", "39.48", "34.50"]
    row = list(row_of(tables.table6(view)[0], "printed: DERL").values())[1:]
    assert row == ["112.38 M", "2.89 M", "7.29", "", "", "1.038", "71.95 / 73.57", "34.50"]


def test_ablations_are_the_papers_rows_in_its_order():
    assert [(label, variant.overrides) for label, variant in ABLATIONS.items()] == [
        ("without HED", {"recipe": "paper", "disentangler": "mlp"}),
        ("without MLCR", {"recipe": "paper", "reconstruction_levels": ()}),
        ("input level alone (L_rec^1)", {"recipe": "paper", "reconstruction_levels": ("input",)}),
        ("disentangled level alone (L_rec^2)", {"recipe": "paper", "reconstruction_levels": ("disentangled",)}),
        ("joint level alone (L_rec^3)", {"recipe": "paper", "reconstruction_levels": ("joint",)}),
        ("without MRF", {"recipe": "paper", "fusion": "mean"}),
        ("DERL", {"recipe": "paper"}),
    ]


def test_other_data_and_another_encoder_are_named_beside_the_papers_rows(view):
    options = replace(view.options, data="a.pkl", text_encoder="models/minilm", preset="mosei")
    sheet = tables.table1(View(view.ledger, SEEDS, "valid", options))[0]
    assert row_of(sheet, "printed: DERL")["MAE"] == "0.665"  # of MOSEI
    assert sheet.note.startswith(
        "Printed: Table 1 of the paper, on CMU-MOSEI with bert-base-uncased. Here: no vision, text encoder minilm, "
        "label counts other than in Table A.7."
    )


def test_what_the_paper_prints_for_mosi_alone_is_not_shown_for_mosei(tmp_path):
    for table in (tables.table3, tables.table4, tables.table5, tables.table6):
        sheet = table(empty(tmp_path, "--data", "a.pkl", "--preset", "mosei"))[0]
        assert not [row for row in sheet.table.rows if row[0].startswith("printed")]
        assert sheet.note == f"The paper prints Table {sheet.name[-1]} for CMU-MOSI alone."


def test_table5_chooses_at_the_rate_it_names(view):
    sheet, _ = tables.table5(view)
    for index, rate in enumerate(RATES[1:], start=1):
        epochs, values = [], []
        for seed in range(SEEDS):
            record = view.ledger.record(PAPER.cell(seed))
            errors = np.abs(record.arrays["valid"][:, index] - record.arrays["labels_valid"]).mean(1)
            epochs.append(int(errors.argmin()))
            scores = record.arrays["test"][epochs[-1], : len(R)]
            values.append(np.abs(scores - record.arrays["labels_test"]).mean())
        row = row_of(sheet, f"{rate:.1f}")
        assert row["selected epochs"] == ", ".join(str(epoch + 1) for epoch in epochs)
        assert row["MAE"] == shown(values)
    assert row_of(sheet, "none: the last epoch")["selected epochs"] == "3, 3"


def test_table5_under_the_papers_protocol_chooses_each_metric_on_the_test_split_at_the_rate_it_names(view):
    paper = View(view.ledger, SEEDS, "paper", view.options)
    sheet, _ = tables.table5(paper)
    for index, rate in enumerate(RATES[1:], start=1):
        epochs, maes, accuracies = [], [], []
        for seed in range(SEEDS):
            record = view.ledger.record(PAPER.cell(seed))
            scores, labels = record.arrays["test"][:, : len(R)], record.arrays["labels_test"]
            errors = np.abs(scores - labels).mean(2)
            epochs.append(int(errors[:, index].argmin()))
            maes.append(errors[epochs[-1]].mean())
            right = ((scores >= 0) == (labels >= 0)).mean(2)
            accuracies.append(right[right[:, index].argmax()].mean())
        row = row_of(sheet, f"{rate:.1f}")
        assert row["selected epochs"] == ", ".join(str(epoch + 1) for epoch in epochs)
        assert row["MAE"] == shown(maes)
        (data,) = [one for one in sheet.data if (one["row"], one["figure"]) == (f"{rate:.1f}", "acc2_has0")]
        assert [float(value) for value in data["seeds"].split()] == pytest.approx(accuracies)
    at_one_half, table1 = row_of(sheet, "0.5"), row_of(tables.table1(paper)[0], DERL)
    assert [at_one_half[name] for name in table1 if name] == list(table1.values())[1:]
    assert row_of(sheet, "none: the last epoch")["selected epochs"] == "3, 3"


def test_a_table_of_another_protocol_than_asked_for_says_so_in_its_title(view, monkeypatch):
    written = []
    monkeypatch.setattr("derl.study.report._write_sheet", lambda sheet, *_: written.append(sheet.table.title))
    every = reports("mosi")
    for name in ("table1", "table5", "recipes"):
        every[name].write(name, View(view.ledger, SEEDS, "paper", view.options), Console(file=io.StringIO()))
    of_valid = {title.split(":")[0].split(",")[0] for title in written if title.endswith(" (protocol valid)")}
    assert of_valid == {"Bias", "Differences", "Collapse by available modalities (protocol valid)", "Router load"}
    written.clear()
    every["table1"].write("table1", View(view.ledger, SEEDS, "valid", view.options), Console(file=io.StringIO()))
    assert not [title for title in written if "protocol" in title]


def test_table6_has_medians_and_both_counts(view):
    row = row_of(tables.table6(view)[0], DERL)
    assert list(row.values())[1:6] == ["5,000", "3,000", "4.5", "100", "1024"]
    assert row["MAE"] == shown(maes(view, PAPER, R))


def test_recipes_relate_correlations_and_count_collapses(view):
    sheet, loads = robustness.recipes(view)
    ratios = []
    for seed in range(SEEDS):
        record, epoch = chosen(view, PAPER, seed)
        index = CONDITIONS.index("audio")
        corr = stats.pearsonr(record.arrays["test"][epoch, index], record.arrays["labels_test"]).statistic
        ratios.append(corr / (0.9 - 0.01 * index))
    row = row_of(sheet, f"{DERL}, audio")
    assert row["Corr / best possible"] == shown(ratios)
    assert row["collapsed"] == "1 of 2"
    assert row["most common class: share"] == "+1: 40 %; -1: 100 %"
    assert row_of(sheet, f"{DERL}, text")["collapsed"] == "0 of 2"
    assert row_of(loads, f"{DERL}, text: private 1")["r = 0.9"] == "0.900"


def test_the_matrix_reads_each_pattern_at_its_rates(view):
    sheet = robustness.patterns(view)[0]
    for trained, variant in trained_on().items():
        cells = {name: cell.removesuffix(")").split(" (") for name, cell in row_of(sheet, trained).items()}
        row = {name: cell[0] for name, cell in cells.items()}
        for pattern in PATTERNS:  # in brackets, the distance to the last row
            own, best = (
                float(cell.split(" ± ")[0]) for cell in (row[pattern], row_of(sheet, "best possible")[pattern])
            )
            assert float(cells[pattern][1]) == pytest.approx(own - best, abs=0.0011)
        assert row["frames"] == shown(maes(view, variant, [f"r={rate}" for rate in PATTERN_RATES]))
        for pattern in [*PATTERNS][1:]:
            rows = [PATTERN_NAMES.index(f"{pattern} r={rate}") for rate in PATTERN_RATES]
            records = [view.ledger.record(variant.cell(seed)) for seed in range(SEEDS)]
            values = [np.abs(r.arrays["patterns"][rows] - r.arrays["labels_test"]).mean() for r in records]
            assert row[pattern] == shown(values), (trained, pattern)


def test_a_pattern_registered_after_the_study_is_missing_from_it_and_breaks_nothing(view):
    register_pattern("last", drop_block)
    sheet = robustness.patterns(view)[0]
    assert sheet.table.header == ["trained on", *PATTERNS]
    assert set(row_of(sheet, "last").values()) == {"last", "missing"}
    assert set(row_of(sheet, "frames").values()) == {"frames", "missing"}
    assert "best possible" not in [row[0] for row in sheet.table.rows if row]
    assert pictures.pattern_matrix(view) is None


def test_figure4_counts_the_chosen_epoch_of_every_seed(view):
    figure = pictures.figure4(view)
    record, epoch = chosen(view, PAPER, 0)
    other, other_epoch = chosen(view, PAPER, 1)
    for axes, rate in zip(figure.axes, (0.1, 0.5, 0.9), strict=False):
        index = CONDITIONS.index(f"r={rate}")
        expected = np.zeros((7, 7), dtype=int)
        for one, at in ((record, epoch), (other, other_epoch)):
            predicted = np.clip(np.round(one.arrays["test"][at, index]), -3, 3).astype(int) + 3
            true = np.clip(np.round(one.arrays["labels_test"]), -3, 3).astype(int) + 3
            np.add.at(expected, (true, predicted), 1)
        assert [int(text.get_text()) for text in axes.texts] == expected.flatten().tolist()


def test_a_metric_that_is_not_defined_is_not_drawn_as_missing():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    pictures.heat_map(axes, [[0.4, math.nan], [None, 0.2]], 1, figure, "Corr", False)
    assert [text.get_text() for text in axes.texts] == ["0.4", "-", "missing", "0.2"]


def test_every_missing_row_says_so_in_the_csv(view):
    text = tables.table3(view)[0].csv()
    assert "without HED,missing" in text


def test_validation_has_a_table_of_its_own_to_choose_by(view):
    sheet = tables.options(view)[-1]
    values = []
    for seed in range(SEEDS):
        record, epoch = chosen(view, PAPER, seed)
        values.append(np.abs(record.arrays["valid"][epoch, : len(R)] - record.arrays["labels_valid"]).mean())
    assert row_of(sheet, DERL)["MAE"] == shown(values)
