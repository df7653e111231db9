"""A table of one's own: what its cells may be, what is left out, and which row is at fault."""

import csv

import numpy as np
import pytest
from scipy.io import wavfile

from derl.data.load import load_data
from derl.data.split import DataError
from derl.data.table import Table

SPLITS = {"train": 6, "valid": 2, "test": 3}


def write(folder, rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"


@pytest.fixture
def rows(tmp_path):
    """Rows of text, sound and a face, with frames in every format; nothing is absent."""
    rng = np.random.default_rng(0)
    found = []
    for number, split in enumerate(name for name, count in SPLITS.items() for _ in range(count)):
        wavfile.write(tmp_path / f"{number}.wav", 16_000, rng.integers(-999, 999, 4800).astype(np.int16))
        face, suffix = rng.standard_normal((4 + number % 3, 3)), (".npy", ".npz", ".csv")[number % 3]
        if suffix == ".npy":
            np.save(tmp_path / f"{number}.npy", face)
        elif suffix == ".npz":
            np.savez(tmp_path / f"{number}.npz", face)
        else:
            np.savetxt(tmp_path / f"{number}.csv", face, delimiter=",", header="a,b,c", comments="")
        found.append(
            {
                "id": f"clip {number}",
                "split": split,
                "label": number / 2,
                "text": "so, good",
                "audio": f"{number}.wav",
                "face": f"{number}{suffix}",
            }
        )
    return found


def test_a_table_gives_splits_with_every_kind_of_frames(tmp_path, rows):
    splits = Table().read(write(tmp_path, rows))
    assert {name: len(split) for name, split in splits.items()} == SPLITS
    train = splits["train"]
    assert train.modalities == ("text", "audio", "face")
    assert train.ids[1] == "clip 1"
    assert train.text[0] == "so, good"
    assert train.labels.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert train.features["audio"].shape == (6, 31, 80)
    assert train.lengths["face"].tolist() == [4, 5, 6, 4, 5, 6]
    np.testing.assert_allclose(train.features["face"][0, :4], np.load(tmp_path / "0.npy"), rtol=1e-6)
    np.testing.assert_allclose(
        train.features["face"][2], np.loadtxt(tmp_path / "2.csv", delimiter=",", skiprows=1), rtol=1e-6
    )


def test_an_empty_cell_is_a_sample_of_length_0(tmp_path, rows):
    rows[0]["audio"], rows[1]["face"], rows[2]["text"] = "", "  ", ""
    train = Table().read(write(tmp_path, rows))["train"]
    assert train.lengths["audio"].tolist() == [0, 31, 31, 31, 31, 31]
    assert train.lengths["face"].tolist() == [4, 0, 6, 4, 5, 6]
    assert not train.text[2]


@pytest.mark.parametrize("blank", ["", "  ", "\u200b"], ids=["empty", "spaces", "never shown"])
def test_rows_without_any_input_are_left_out_and_counted(tmp_path, rows, blank):
    rows[1] |= {"audio": blank, "face": blank, "text": blank}
    table = Table()
    assert len(table.read(write(tmp_path, rows))["train"]) == 5
    assert table.notes == [f"left out: 1 rows without any input, first {tmp_path}/table.csv, line 3."]


def test_columns_that_name_no_files_are_left_out_with_the_reason(tmp_path, rows):
    for row in rows:
        row |= {"speaker": "Ann", "nothing": ""}
    left_out = Table().read(write(tmp_path, rows))["train"].left_out
    assert left_out == {
        "speaker": "no cell names a file (.npy, .npz, .csv, .wav)",
        "nothing": "every cell is empty",
    }


def test_a_modality_that_training_never_has_is_left_out(tmp_path, rows):
    for row in rows[:6]:
        row["face"] = ""
    train = Table().read(write(tmp_path, rows))["train"]
    assert train.modalities == ("text", "audio")
    assert train.left_out == {"face": "it has no frames in any training row"}


def test_frames_beyond_trainings_longest_are_cut_and_counted(tmp_path, rows):
    np.save(tmp_path / "9.npy", np.ones((9, 3)))
    table = Table()
    splits = table.read(write(tmp_path, rows))
    assert splits["test"].features["face"].shape == (3, 6, 3)
    assert splits["test"].lengths["face"].max() == 6
    assert table.notes == [
        "face: 1 samples of valid and test were cut to 6 frames, training's longest; the longest had 9."
    ]


def test_splits_are_drawn_by_group_from_the_seed_and_said(tmp_path, rows):
    for number, row in enumerate(rows):
        del row["split"]
        row["speaker"] = f"speaker {number // 2}"
    path = write(tmp_path, rows)
    table = Table(group="speaker", seed=3)
    splits = table.read(path)
    speakers = {name: {rows[int(id.split()[1])]["speaker"] for id in split.ids} for name, split in splits.items()}
    assert sum(map(len, splits.values())) == len(rows)
    assert sum(map(len, speakers.values())) == 6  # no speaker is in two splits
    counts = ", ".join(f"{len(splits[name])} {name}" for name in ("train", "valid", "test"))
    assert table.notes[0] == f"splits drawn with seed 3: {counts}; rows of one speaker are in one split."
    assert [split.ids for split in Table(group="speaker", seed=3).read(path).values()] == [
        split.ids for split in splits.values()
    ]


def test_a_validation_split_is_drawn_from_training_if_there_is_none(tmp_path, rows):
    for row in rows:
        row["split"] = {"valid": "train"}.get(row["split"], row["split"])
    table = Table()
    splits = table.read(write(tmp_path, rows))
    assert {name: len(split) for name, split in splits.items()} == {"train": 7, "valid": 1, "test": 3}
    assert "row by row, as there is no column of groups" in table.notes[0]


def test_class_names_become_numbers_and_are_kept(tmp_path, rows):
    for number, row in enumerate(rows):
        row["label"] = ("sad", "calm", "glad")[number % 3]
    train = Table(classify=True).read(write(tmp_path, rows))["train"]
    assert train.classes == ["calm", "glad", "sad"]
    assert train.labels.tolist() == [2, 0, 1, 2, 0, 1]
    for number, row in enumerate(rows):
        row["label"] = (10, 9, 2)[number % 3]
    assert Table(classify=True).read(write(tmp_path, rows))["train"].classes == ["2", "9", "10"]


def test_openface_frames_without_a_face_are_no_numbers_and_its_bookkeeping_is_no_feature(tmp_path, rows):
    (tmp_path / "of.csv").write_text(
        "frame, face_id, timestamp, confidence, success, AU01_r, AU02_r, AU04_r\n"
        "1, 0, 0.00, 0.98, 1, 0.5, 1.5, 2.5\n2, 0, 0.03, 0.10, 0, 9, 9, 9\n3, 0, 0.07, 0.97, 1, , 1, 2\n"
    )
    from derl.data.frames import read_frames

    frames = read_frames(tmp_path / "of.csv")
    np.testing.assert_array_equal(frames, [[0.5, 1.5, 2.5], [np.nan] * 3, [np.nan, 1, 2]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face": "clip.mp4"}, "found the video, which is not decoded; docs/your-data.md names tools"),
        ({"face": "gone.npy"}, "gone.npy: expected an array in a .npy file, found No such file"),
        ({"face": "0.txt"}, r"expected a file \(.*\.wav\) or an empty cell as face, found '0\.txt'"),
        ({"face": "wide.npy"}, "expected 3 features per frame of face, as in .*line 2, found 4; extract them alike"),
        ({"face": "many.npy"}, r"expected numbers \(frames, features\), found float64 \(2, 5, 3\); save one sample"),
        ({"audio": "cut.wav"}, "cut.wav: expected sound in a .wav file, found .*; convert it: ffmpeg"),
        ({"face": "words.csv"}, "expected numbers below the header, found 'x' in frame 1"),
        ({"face": "ragged.csv"}, "expected 2 numbers in every line, found 1 in frame 2"),
        ({"label": ""}, "expected a label, found an empty cell"),
        ({"label": "good"}, "expected a number as label, found 'good'; --task classify reads class names"),
        ({"label": "inf"}, "expected a number as label, found 'inf'"),
        ({"split": "tests"}, "expected split to be one of train, valid, test, found 'tests'"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line(tmp_path, rows, change, message):
    np.save(tmp_path / "wide.npy", np.ones((2, 4)))
    np.save(tmp_path / "many.npy", np.ones((2, 5, 3)))
    (tmp_path / "cut.wav").write_bytes((tmp_path / "0.wav").read_bytes()[:200])
    (tmp_path / "words.csv").write_text("a,b\n1,x\n")
    (tmp_path / "ragged.csv").write_text("1,2\n1\n")
    rows[4] |= change
    with pytest.raises(DataError, match=message) as error:
        Table().read(write(tmp_path, rows))
    assert f"{tmp_path}/table.csv, line 6" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,good\n", "expected a column label, found id, text"),
        ("label,mood\n1,good\n", "expected a column text, or columns of files"),
        ("label,text\n", "expected rows below the header"),
        ("label;text\n1;good\n", "expected commas between the columns, found 'label;text'"),
        ("label,text\n1,a\n2,b\n", "expected at least 3 groups to draw the splits from, found 2"),
        ("label,split,text\n1,train,a\n2,train,b\n", "found none of valid, test; add some, or leave out the column"),
        ("label,text,type\n1,a,a.npy\n2,b,b.npy\n3,c,c.npy\n", "found 'type'; rename that column"),
    ],
)
def test_a_table_that_cannot_train_says_why(tmp_path, content, message):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        Table().read(tmp_path)


def test_a_class_that_training_lacks_is_refused(tmp_path, rows):
    for row in rows:
        row["label"] = "ab"[row["id"] == "clip 1"]
    rows[-1]["label"] = "c"
    with pytest.raises(DataError, match=r"line 12: expected a class of the training rows \(a, b\), found 'c'"):
        Table(classify=True).read(write(tmp_path, rows))


def test_a_table_is_converted_once_and_again_when_a_file_changes(tmp_path, rows, capsys):
    write(tmp_path, rows)
    cache = tmp_path / "run" / "data.safetensors"
    first = load_data(tmp_path, cache)["train"]
    assert "converting" in capsys.readouterr().out
    assert load_data(tmp_path, cache)["train"].features["face"].equal(first.features["face"])
    assert "converting" not in capsys.readouterr().out
    np.save(tmp_path / "0.npy", np.zeros((4, 3)))
    assert not load_data(tmp_path, cache)["train"].features["face"][0].any()
    assert "converting" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["a frame file", "every file of frames", "the table", "the folder"])
def test_what_was_converted_is_read_when_its_files_are_gone(tmp_path, rows, capsys, lost):
    folder, cache = tmp_path / "data", tmp_path / "run" / "data.safetensors"
    folder.mkdir()
    frames = [path.rename(folder / path.name) for path in sorted(tmp_path.glob("*.*"))]
    table = write(folder, rows)
    first = load_data(folder, cache)
    for path in {
        "a frame file": frames[3:4],
        "every file of frames": frames,
        "the table": [table],
        "the folder": [*frames, table],
    }[lost]:
        path.unlink()
    if lost == "the folder":
        folder.rmdir()
    capsys.readouterr()
    again = load_data(folder, cache)
    said = " ".join(capsys.readouterr().out.split())
    assert f"is not there any more; {cache} holds what was read from it" in said
    for split in first:
        assert again[split].features["face"].equal(first[split].features["face"])
        assert again[split].ids == first[split].ids


def test_a_changed_table_that_names_a_file_that_is_not_there_is_refused(tmp_path, rows):
    write(tmp_path, rows)
    load_data(tmp_path, tmp_path / "cache.safetensors")
    rows[0]["face"] = "nowhere.npy"
    write(tmp_path, rows)
    with pytest.raises(DataError, match=r"line 2, face: .*nowhere\.npy: .*No such file"):
        load_data(tmp_path, tmp_path / "cache.safetensors")


def test_a_folder_without_a_table_says_what_it_may_hold(tmp_path):
    with pytest.raises(DataError, match=r"expected table\.csv, Parquet, a Hugging Face data set or shards"):
        load_data(tmp_path, tmp_path / "cache.safetensors")
