"""Tables beside CSV: Parquet, and folders that Hugging Face datasets saved."""

import sys

import pytest

from derl.data.rows import find_table, read_rows
from derl.data.split import DataError
from derl.data.table import Table

ROWS = [{"id": str(number), "label": float(number), "text": "so good" if number else None} for number in range(4)]


def test_a_folder_of_parquet_is_named_by_its_splits(tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    for name, rows in (("train", ROWS[:2]), ("validation", ROWS[2:3]), ("test", ROWS[3:])):
        face = [[[0.5, 1.5]] * (number + 1) for number in range(len(rows))]
        table = arrow.Table.from_pylist(rows).append_column("face", arrow.array(face))
        parquet.write_table(table, tmp_path / f"{name}-00000-of-00001.parquet")
    splits = Table().read(tmp_path)
    assert {name: split.ids for name, split in splits.items()} == {"train": ["0", "1"], "valid": ["2"], "test": ["3"]}
    assert splits["train"].text == [None, "so good"]
    assert splits["train"].features["face"].tolist() == [[[0.5, 1.5], [0, 0]], [[0.5, 1.5], [0.5, 1.5]]]
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"expected a Parquet file, found .*; write it again"):
        Table().read(tmp_path)


def test_a_saved_data_set_has_the_names_of_its_classes(tmp_path):
    datasets, arrow = pytest.importorskip("datasets"), pytest.importorskip("pyarrow")
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["sad", "glad"]), "text": datasets.Value("string")}
    )
    table = arrow.Table.from_pydict({"label": [1, 0], "text": ["so", None]}, schema=features.arrow_schema)
    part = datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint="made-here")
    datasets.DatasetDict({"train": part}).save_to_disk(tmp_path / "saved")
    assert [row.cells for row in read_rows(find_table(tmp_path / "saved"))] == [
        {"label": "glad", "text": "so", "split": "train"},
        {"label": "sad", "text": None, "split": "train"},
    ]


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "a.parquet"), ("datasets", "dataset_dict.json")])
def test_what_is_not_installed_is_named_with_another_way(tmp_path, monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        DataError, match=rf"{package}.*not installed; run pip install 'modx\[tables\]', or save the table"
    ):
        Table().read(tmp_path)


def test_what_is_no_table_is_none(tmp_path):
    assert find_table(tmp_path) is None
    assert find_table(tmp_path / "a.pkl") is None
    assert find_table("a.CSV") is not None
