"""Stays are read the same from one file and from the challenge's text files; what is wrong with them is named."""

import numpy as np
import pytest
import torch
from invented_stays import arrays, write_npz, write_text

from icu.stays import PARTS, read_stays
from icu.variables import COLUMNS, SERIES, STATIC, VARIABLES


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def test_every_variable_belongs_to_one_modality():
    assert [VARIABLES[columns] for columns in COLUMNS.values()] == list(SERIES.values())
    assert len(set(VARIABLES)) == 37


def test_both_readers_agree(tmp_path):
    one, other = read_stays(write_npz(tmp_path / "stays.npz")), read_stays(write_text(tmp_path / "text"))
    same(one.values, torch.from_numpy(arrays()["values"]))
    same(other.values, one.values)
    same(other.static, one.static)
    same(other.died, one.died)


def test_the_order_of_variables_in_the_file_does_not_matter(tmp_path):
    found = arrays()
    order = np.random.default_rng(1).permutation(len(VARIABLES))
    shuffled = {"variables": found["variables"][order], "values": found["values"][..., order]}
    same(read_stays(write_npz(tmp_path / "stays.npz", **shuffled)).values, torch.from_numpy(found["values"]))


def test_a_folder_is_split_in_five_ways_that_each_hold_every_stay_once(tmp_path):
    splits = read_stays(write_text(tmp_path / "text")).splits
    assert [{part: len(rows) for part, rows in split.items()} for split in splits] == [
        {"train": 48, "valid": 6, "test": 6}
    ] * 5
    for split in splits:
        assert torch.cat([split[part] for part in PARTS]).sort().values.tolist() == list(range(60))
    assert not torch.equal(splits[0]["test"], splits[1]["test"])


def test_a_stay_without_measurements_is_in_no_split(tmp_path):
    folder = write_text(tmp_path / "text")
    (folder / "set-a" / "132007.txt").write_text("Time,Parameter,Value\n00:00,RecordID,132007\n00:00,Age,54\n")
    stays = read_stays(folder)
    assert stays.static[7, STATIC.index("Age")] == 54
    assert all(7 not in rows for split in stays.splits for rows in split.values())


def test_a_value_at_48_hours_belongs_to_the_last_hour(tmp_path):
    folder = write_text(tmp_path / "text")
    with (folder / "set-a" / "132000.txt").open("a") as file:
        file.write("48:00,HR,77\n")
    assert read_stays(folder).values[0, 47, VARIABLES.index("HR")] == 77


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"static": None}, "has no array 'static'"),
        ({"split3_valid": None}, "has no array 'split3_valid'"),
        ({"variables": np.array(["HR"] * 37)}, r"has variables \['HR', .*expected \['ALP', "),
        ({"static": np.zeros((60, 4))}, r"has static of shape \(60, 4\), expected \(60, 5\)"),
        ({"values": np.zeros((60, 24, 37))}, r"has values of shape \(60, 24, 37\), expected \(60, 48, 37\)"),
        ({"split2_test": np.array([3, 60])}, "has rows in split2_test that are not among its 60 stays"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_stays(write_npz(tmp_path / "stays.npz", **changed))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "stays.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"stays.npz is neither an .npz file nor a folder"):
        read_stays(tmp_path / "stays.npz")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("Outcomes-a.txt", "132000,6", "132x,6", r"Outcomes-a.txt, line 2: expected a RecordID, and 0 or 1"),
        ("Outcomes-a.txt", "In-hospital_death", "Died", r"Outcomes-a.txt, line 2: expected .* as In-hospital_death"),
        ("Outcomes-a.txt", "132059,", "999999,", r"has no file 999999.txt, one of 1 that its outcomes name"),
        ("set-a/132000.txt", "Time,", "When,", r"132000.txt, line 1: expected Time,Parameter,Value"),
        ("set-a/132000.txt", ",Age,", ",Aeg,", r"132000.txt, line 3: 'Aeg' is not one of the challenge's variables"),
        ("set-a/132000.txt", "00:00,Age,", "Age,", r"132000.txt, line 3: expected HH:MM, a name and a number, got"),
        ("set-a/132000.txt", "00:00,Age,", "00:00,Age,x", r"132000.txt, line 3: expected HH:MM, a name and a number"),
    ],
)
def test_what_is_wrong_with_a_text_file_is_named_with_its_line(tmp_path, name, old, new, message):
    folder = write_text(tmp_path / "text")
    path = folder / name
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_stays(folder)


def test_a_folder_without_outcomes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no Outcomes-\*.txt with stays; unpack Outcomes-a.txt into it"):
        read_stays(tmp_path)
