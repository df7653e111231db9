"""The reader of UTD-MHAD: both forms hold the same clips, and a wrong file is named."""

import numpy as np
import pytest
from scipy.io import savemat

from actions.clips import read_clips
from actions.protocol import split_clips


@pytest.fixture
def folder(clips, tmp_path):
    """The clips as the official files, in two folders."""
    for part in ("Inertial", "Skeleton"):
        (tmp_path / "mat" / part).mkdir(parents=True)
    for action, subject, inertial, skeleton in zip(*clips, strict=True):
        name = f"a{action + 1}_s{subject}_t1"
        savemat(tmp_path / "mat" / "Inertial" / f"{name}_inertial.mat", {"d_iner": inertial.astype(float)})
        savemat(
            tmp_path / "mat" / "Skeleton" / f"{name}_skeleton.mat",
            {"d_skel": skeleton.transpose(1, 2, 0).astype(float)},
        )
    return tmp_path / "mat"


def test_an_npz_file_gives_the_clips_that_were_written(clips, file):
    assert_same(read_clips(file), clips)


def test_a_folder_gives_the_clips_by_action_subject_and_trial(clips, folder):
    order = np.lexsort((clips.subject, clips.action))
    expected = type(clips)(
        clips.action[order], clips.subject[order], *([part[row] for row in order] for part in clips[2:])
    )
    assert_same(read_clips(folder), expected)


def assert_same(found, expected):
    np.testing.assert_array_equal(found.action, expected.action)
    np.testing.assert_array_equal(found.subject, expected.subject)
    for one, other in zip(found.inertial + found.skeleton, expected.inertial + expected.skeleton, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_nothing_there_says_where_the_data_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*docs/actions.md"):
        read_clips(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skeleton": None}, r"found no \['skeleton'\]"),
        ({"inertial": np.zeros((9, 6))}, r"expected inertial \(\d+, 6\) in .*, got \(9, 6\)"),
        ({"subject": np.ones(4, int)}, r"one entry per clip .*'subject': 4"),
        ({"action": np.full(18, 28)}, "expected actions 1 to 27 .*, got 28 to 28"),
    ],
)
def test_a_wrong_array_is_named(arrays, change, message, tmp_path):
    np.savez(tmp_path / "wrong.npz", **{k: v for k, v in (arrays | change).items() if v is not None})
    with pytest.raises(ValueError, match=message):
        read_clips(tmp_path / "wrong.npz")


def test_a_file_that_is_no_npz_is_named(tmp_path):
    (tmp_path / "wrong.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"could not read .*wrong.npz"):
        read_clips(tmp_path / "wrong.npz")


def test_a_folder_without_clips_says_what_to_unpack(tmp_path):
    with pytest.raises(ValueError, match=r"a1_s1_t1_inertial.mat in .*found none. Unpack Inertial.zip"):
        read_clips(tmp_path)


def test_a_clip_without_a_skeleton_is_named(folder):
    (folder / "Skeleton" / "a2_s3_t1_skeleton.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a2_s3_t1_skeleton.mat beside a2_s3_t1_inertial.mat"):
        read_clips(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"d_iner": np.zeros((9, 5))}, r"expected d_iner \(T, 6\) .*, got \(9, 5\)"), ({"x": [1]}, "a variable 'd_iner'")],
)
def test_a_wrong_mat_file_is_named(folder, content, message):
    savemat(folder / "Inertial" / "a1_s1_t1_inertial.mat", content)
    with pytest.raises(ValueError, match=message):
        read_clips(folder)


def test_a_fold_reads_no_even_subject_and_the_test_split_no_odd_one(clips):
    train_rows, rows = split_clips(clips, "fold 7")
    assert {*clips.subject[train_rows]} == {1, 3, 5}
    assert {*clips.subject[rows]} == {7}
    train_rows, rows = split_clips(clips, "test")
    assert {*clips.subject[train_rows]} == {1, 3, 5, 7}
    assert {*clips.subject[rows]} == {2, 4}


def test_a_fold_of_a_subject_that_is_not_there_is_named(clips):
    with pytest.raises(ValueError, match=r"'fold 9' leaves out, found subjects \[1, 2, 3, 4, 5, 7\]"):
        split_clips(clips, "fold 9")
