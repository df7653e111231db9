"""The count of lines that check arguments, and the bound that the library keeps to."""

import subprocess

import pytest

from check_lines import ROOT, check_lines, code_lines, share

LARGEST_SHARE = 0.12

SAMPLE = '''"""A module."""

from somewhere import check_size  # counts


# a comment
def read(x: int, y: int) -> int:
    """No code.

    Nor this.
    """
    check_size(
        x,  # counts, whole
    )
    if x > y:
        raise ValueError("counts, and so does its test")
    if y:
        z = check_size(y)
        raise ValueError(z)
    for size in check_size(x):
        y += size
    return y


def _check_y(y: int) -> None:
    y += 1


@check_size
def checker(y: int) -> int:
    return y
'''


def test_lines_of_code_are_neither_blank_nor_comments_nor_docstrings():
    assert code_lines(SAMPLE) == {3, 7, *range(12, 23), 25, 26, 29, 30, 31}


def test_lines_that_check_raise_or_name_a_check():
    assert check_lines("modx/sample.py", SAMPLE) == {3, 12, 13, 14, 15, 16, 18, 19, 20, 25, 26, 29}


def test_all_lines_of_the_module_of_checks_count():
    assert check_lines("modx/_checks.py", SAMPLE) == code_lines(SAMPLE)


def test_a_revision_is_counted_as_a_folder_is():
    first = "14b216a9814214e3f90f2414150ea7768f68937a"
    if subprocess.run(["git", "cat-file", "-e", first], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("needs the repository's history")
    found, counts = share(first)
    assert counts["modx/missing/erase.py"] == (29, 48)
    assert round(found, 2) == 0.28


def test_checks_never_outweigh_what_they_guard():
    found, _ = share(str(ROOT))
    assert found <= LARGEST_SHARE
