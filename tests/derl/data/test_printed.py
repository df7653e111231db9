"""The paper's numbers are held whole, and what follows from them is computed here."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from derl.data.printed import PRINTED, printed_rows

PAPER = Path(__file__).parents[4] / "shared" / "paper" / "derl.md"
needs_paper = pytest.mark.skipif(not PAPER.exists(), reason="the text of the paper is not beside the repository")
TABLES = [name for name in PRINTED if name.startswith("Table")]
CASES = ["t", "v", "a", "t+v", "t+a", "v+a", "t+v+a"]


def exact(number):
    return Fraction(str(number))


def mean(numbers):
    return sum(map(exact, numbers)) / len(numbers)


def agree(exact_number, printed):
    """Whether a number could have been rounded to what is printed."""
    return abs(exact_number - exact(printed)) <= Fraction(5, 1000)


def column(table, data_set, row, name):
    return exact(printed_rows(table, data_set)[row][name])


def gain(table, data_set, name, baseline):
    """By how much DERL changes a figure, and that in percent of the baseline's."""
    ours, theirs = (column(table, data_set, row, name) for row in ("DERL", baseline))
    return float(ours - theirs), float(100 * (ours - theirs) / theirs)


def read_table(name):
    """Data set -> row -> numbers, as the text of the paper has them."""
    lines = PAPER.read_text().splitlines()
    lines = lines[next(index for index, line in enumerate(lines) if line.startswith(f"{name}:")) :]
    first = next(index for index, line in enumerate(lines) if "\t" in line) + 1
    data_set, found = "MOSI", {}
    for line in lines[first : lines.index("", first)]:
        label, *cells = line.split("\t")
        label = re.sub(r"\\mathcal|[{}$]", "", label)
        numbers = [float(number) for cell in cells for number in re.findall(r"[\d.]+", cell)]
        if numbers:
            found.setdefault(data_set, {})[label] = numbers
        else:
            data_set = label
    return found


HEADINGS = {  # in the paper -> our names
    "MAE": ["mae"],
    "Corr": ["corr"],
    "Acc-2": ["acc2_has0", "acc2_non0"],
    "F1": ["f1_has0", "f1_non0"],
    "Acc-5": ["acc5"],
    "Acc-7": ["acc7"],
    "Avg.": ["average"],
    "a,v": ["v+a"],
    "Params (M)": ["parameters, millions", "without the text encoder"],
    "Time/Epoch (S)": ["seconds per epoch"],
}


def read_headings(name):
    """Our names of a table's columns, as the text of the paper has them."""
    lines = PAPER.read_text().splitlines()
    lines = lines[next(index for index, line in enumerate(lines) if line.startswith(f"{name}:")) :]
    headings = next(line for line in lines if "\t" in line).split("\t")[1:]
    words = [re.sub(r"[\\\\{}$]", "", heading) for heading in headings]
    return [column for word in words for column in HEADINGS.get(word, [word.replace(",", "+")])]


def held(name):
    content = {data_set: PRINTED[name][data_set] for data_set in ("MOSI", "MOSEI") if data_set in PRINTED[name]}
    if name != "Table A.7":
        return content
    rows = {
        data_set: [*(count for counts in splits.values() for count in counts), PRINTED[name]["total"][data_set]]
        for data_set, splits in content.items()
    }
    return {"MOSI": rows}  # its rows are the data sets


@needs_paper
@pytest.mark.parametrize("name", TABLES)
def test_every_number_of_the_papers_tables_is_held_and_no_other(name):
    assert held(name) == read_table(name)


@needs_paper
@pytest.mark.parametrize("name", [name for name in TABLES if name != "Table A.7"])
def test_every_number_stands_under_its_own_heading(name):
    assert PRINTED[name]["columns"] == read_headings(name)


@needs_paper
def test_every_table_of_the_paper_is_held():
    assert re.findall(r"^(Table [\w.]+):", PAPER.read_text(), re.MULTILINE) == TABLES


def test_printed_averages_are_over_six_cases_for_baselines_and_seven_for_derl():
    over, disagree = {}, {}
    for table, data_set in (("Table 2", "MOSI"), ("Table 2", "MOSEI"), ("Table 4", "MOSI")):
        for row, numbers in printed_rows(table, data_set).items():
            means = {count: mean([numbers[case] for case in CASES[:count]]) for count in (6, 7)}
            nearest = min(means, key=lambda count: abs(means[count] - exact(numbers["average"])))
            over.setdefault((table, data_set, nearest), []).append(row)
            if not agree(means[nearest], numbers["average"]):
                disagree[table, data_set, row] = f"{float(means[nearest]):.3f} is printed as {numbers['average']:.2f}"
    baselines = ["Self-MM", "CubeMLP", "DMD", "MCTN", "TransM", "SMIL", "GCNet", "CorrKD"]
    assert over == {
        ("Table 2", "MOSI", 6): baselines,
        ("Table 2", "MOSI", 7): ["DERL"],
        ("Table 2", "MOSEI", 6): baselines,
        ("Table 2", "MOSEI", 7): ["DERL"],
        ("Table 4", "MOSI", 7): list(printed_rows("Table 4", "MOSI")),
    }
    assert disagree == {("Table 4", "MOSI", "w/o HED"): "62.206 is printed as 62.20"}


@pytest.mark.parametrize(
    ("data_set", "row", "expected"),
    [("MOSI", "DERL", 67.37), ("MOSI", "CorrKD", 74.69), ("MOSEI", "DERL", 72.81), ("MOSEI", "CorrKD", 74.02)],
)
def test_on_the_same_six_cases_corrkd_is_ahead(data_set, row, expected):
    numbers = printed_rows("Table 2", data_set)[row]
    assert agree(mean([numbers[case] for case in CASES[:6]]), expected)


def test_21_6_percentage_points_over_dmd_are_12_44_points():
    points, percent = gain("Table 2", "MOSI", "average", "DMD")
    assert points == pytest.approx(12.44)
    assert percent == pytest.approx(21.70, abs=0.005)


def test_0_82_percent_over_corrkd_compares_seven_cases_with_six():
    assert gain("Table 2", "MOSEI", "average", "CorrKD")[1] == pytest.approx(0.82, abs=0.005)
    six = [mean([printed_rows("Table 2", "MOSEI")[row][case] for case in CASES[:6]]) for row in ("DERL", "CorrKD")]
    assert float(six[0] - six[1]) == pytest.approx(-1.20, abs=0.005)


@pytest.mark.parametrize(
    ("data_set", "metric", "claimed", "found"),
    [
        ("MOSI", "acc2_non0", 2.47, 2.4753),
        ("MOSI", "mae", -2.25, -2.2599),
        ("MOSEI", "acc2_non0", 2.43, 2.4377),
        ("MOSEI", "mae", -3.90, -3.9017),
    ],
)
def test_gains_in_the_text_are_in_percent_of_lnln_and_cut_not_rounded(data_set, metric, claimed, found):
    percent = gain("Table 1", data_set, metric, "LNLN")[1]
    assert percent == pytest.approx(found, abs=0.00005)
    assert int(100 * percent) / 100 == claimed


def test_one_ablation_without_text_has_the_f1_of_always_answering_negative():
    negative, _, positive = PRINTED["Table A.7"]["MOSI"]["test"]
    labels = [0] * negative + [1] * positive
    score = 100 * f1_score(labels, [0] * len(labels), average="weighted")
    row = printed_rows("Table 4", "MOSI")["w/ L_rec^3"]
    assert [row[case] for case in ("v", "a", "v+a")] == [round(score, 2)] * 3 == [42.31] * 3


def test_acc5_is_below_acc7_in_three_rows_where_it_cannot_be():
    below = [
        (table, data_set, row)
        for table in ("Table 1", "Table 3", "Table 5")
        for data_set in ("MOSI", "MOSEI")
        for row, numbers in printed_rows(table, data_set).items()
        if numbers["acc5"] < numbers["acc7"]
    ]
    assert below == [("Table 1", "MOSEI", row) for row in ("MISA", "TFR-Net", "EMOE*")]


def test_rows_of_table_5_share_some_metrics_and_differ_in_others():
    rows = printed_rows("Table 5", "MOSI")
    for pair, shared in ((("r = 0.3", "r = 0.5"), {"mae", "corr"}), (("r = 0.1", "r = 0.3"), {"acc5", "acc7"})):
        first, second = (rows[name] for name in pair)
        assert {metric for metric in first if first[metric] == second[metric]} == shared


def test_three_metrics_of_table_5_rise_again_at_the_highest_rate():
    rows = list(printed_rows("Table 5", "MOSI").values())
    rising = set()
    for metric in rows[0]:
        values = [-row[metric] if metric == "mae" else row[metric] for row in rows]
        best = values.index(max(values))
        assert values[: best + 1] == sorted(values[: best + 1])
        if values[best:] != sorted(values[best:], reverse=True):
            rising.add(metric)
            assert values[-1] > values[-2]
    assert rising == {"corr", "acc2_non0", "f1_non0"}


def test_label_counts_add_up_to_the_sizes_in_the_text():
    sizes = {
        name: [sum(PRINTED["Table A.7"][name][split]) for split in ("train", "valid", "test")]
        for name in ("MOSI", "MOSEI")
    }
    assert sizes == {"MOSI": [1284, 229, 686], "MOSEI": [16326, 1871, 4659]}
    assert {name: sum(rows) for name, rows in sizes.items()} == PRINTED["Table A.7"]["total"]


@pytest.mark.parametrize(
    ("data_set", "cases", "led"), [("MOSI", 7, 4), ("MOSI", 6, 3), ("MOSEI", 7, 8), ("MOSEI", 6, 6)]
)
def test_how_many_baselines_derl_leads_in_table_2(data_set, cases, led):
    rows = printed_rows("Table 2", data_set)
    baselines = {name: exact(numbers["average"]) for name, numbers in rows.items() if name != "DERL"}
    derl = exact(rows["DERL"]["average"]) if cases == 7 else mean([rows["DERL"][case] for case in CASES[:6]])
    assert sum(derl > average for average in baselines.values()) == led


@pytest.mark.parametrize(
    ("data_set", "ahead"),
    [("MOSI", {}), ("MOSEI", {"f1_has0": "LNLN", "acc5": "CENET", "acc7": "CENET"})],
)
def test_where_derl_is_not_the_best_of_table_1(data_set, ahead):
    rows = printed_rows("Table 1", data_set)
    best = {
        metric: (min if metric == "mae" else max)(rows, key=lambda name: rows[name][metric]) for metric in rows["DERL"]
    }
    assert {metric: name for metric, name in best.items() if name != "DERL"} == ahead


@pytest.mark.parametrize("figure", ["parameters, millions", "without the text encoder", "seconds per epoch"])
def test_derl_is_the_smallest_and_fastest_of_table_6(figure):
    rows = printed_rows("Table 6", "MOSI")
    assert min(rows, key=lambda name: rows[name][figure]) == "DERL"


def test_two_averages_of_gcnet_lie_exactly_between_two_printable_numbers():
    found = {
        data_set: (
            str(float(mean([numbers["GCNet"][case] for case in CASES[:6]]))),
            f"{numbers['GCNet']['average']:.2f}",
        )
        for data_set, numbers in ((name, printed_rows("Table 2", name)) for name in ("MOSI", "MOSEI"))
    }
    assert found == {"MOSI": ("73.835", "73.84"), "MOSEI": ("73.535", "73.54")}


@pytest.mark.parametrize("data_set", ["MOSI", "MOSEI"])
def test_combinations_with_text_are_always_better(data_set):
    for numbers in printed_rows("Table 2", data_set).values():
        without = max(numbers[case] for case in ("v", "a", "v+a"))
        assert without < min(numbers[case] for case in ("t", "t+v", "t+a", "t+v+a"))
