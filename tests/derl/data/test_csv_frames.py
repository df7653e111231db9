"""Frames in CSV files: what is a header, an index or a frame is decided by content, and never invented or lost."""

import io

import numpy as np
import pandas
import pytest

from derl.data.frames import read_frames
from derl.data.split import DataError

NAN = np.nan
FRAMES = np.array([[1.5, NAN, 3.0, 4.5], [NAN, NAN, NAN, NAN], [7.5, 8.5, -9.0, 0.0]])


@pytest.fixture
def read(tmp_path):
    def read(content):
        (tmp_path / "frames.csv").write_text(content)
        return read_frames(tmp_path / "frames.csv")

    return read


@pytest.mark.parametrize(
    ("header", "index"),
    [(True, True), (True, False), (list("abcd"), True), (["AU1", "1", "2", "3"], False), (False, False)],
)
@pytest.mark.parametrize("na_rep", ["", "NA", "nan", "<NA>", "null"])
def test_what_pandas_writes_is_read_as_it_was(read, header, index, na_rep):
    content = pandas.DataFrame(FRAMES).to_csv(header=header, index=index, na_rep=na_rep)
    np.testing.assert_array_equal(read(content), FRAMES)


@pytest.mark.parametrize("columns", [1, 2, 3, 5])
def test_so_are_any_number_of_columns_and_an_index_kept_twice(read, columns):
    table = pandas.DataFrame(np.arange(4.0 * columns).reshape(4, columns))
    np.testing.assert_array_equal(read(table.to_csv(index=False)), table)
    once = table.to_csv()
    np.testing.assert_array_equal(read(once), table)
    np.testing.assert_array_equal(read(pandas.read_csv(io.StringIO(once)).to_csv(index=False)), table)  # Unnamed: 0
    np.testing.assert_array_equal(read(pandas.read_csv(io.StringIO(once)).to_csv()), table)
    np.testing.assert_array_equal(read(table[table[0] > columns].to_csv()), table[2:])  # an index with gaps


@pytest.mark.parametrize(
    ("content", "frames"),
    [
        (",,\n1,2,3\n", [[NAN] * 3, [1, 2, 3]]),
        ("NA,NA\n1.5,1.5\n", [[NAN] * 2, [1.5, 1.5]]),
        ("nan,NaN\n1.5,1.5\n", [[NAN] * 2, [1.5, 1.5]]),
        (",2,3\n1,2,3\n", [[NAN, 2, 3], [1, 2, 3]]),
        ("0,1,3\n1,2,3\n", [[0, 1, 3], [1, 2, 3]]),
        ("0.0,1.0\n2.0,3.0\n", [[0, 1], [2, 3]]),
        ("a,b\nNA,1.5\n", [[NAN, 1.5]]),
        ("a,b,\n1,2,\n3,4,\n", [[1, 2], [3, 4]]),  # a comma at every line's end
        ('"","V1","V2"\n"1",1.5,2\n"2",3,NA\n', [[1.5, 2], [3, NAN]]),  # R's write.csv
        ("0,1,2\n", np.empty((0, 3))),
        ("", np.empty((0, 0))),
    ],
)
def test_a_first_line_of_missing_values_is_a_frame_and_names_are_none(read, content, frames):
    np.testing.assert_array_equal(read(content), frames)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "0,1\n1,0\n",
            "expected a first line that is names or a frame, found '0,1', which can be either; name",
        ),
        ("0\n1\n", "found '0', which can be either"),
        (
            ",a,b\n0.1,1,2\n0.3,1,2\n",
            "or an index that counts the frames, found other numbers in column 1; name",
        ),
        ("1.5,oops\n1,2\n", "expected numbers below the header, found 'oops' in frame 1"),
        ("1.5,1_0\n1,2\n", "found '1_0' in frame 1"),
    ],
)
def test_what_cannot_be_told_is_refused(read, content, message):
    with pytest.raises(DataError, match=message):
        read(content)
