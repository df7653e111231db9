"""Where the frames of a row lie is decided by its own content, whatever pads it and whatever the other rows hold."""

import numpy as np
import pytest

from derl.data.padding import Frames, unpad
from derl.data.split import DataError

LIMIT = 8
SPLITS = ("train", "valid", "test")
STANDARDIZED = np.array([-0.7, 0.2])  # what zero becomes


def row(length, *, front=True, filler=0.0, seed=0):
    """``(LIMIT, 2)``: frames 1, 2, ... of this row, and padding."""
    values = np.empty((LIMIT, 2), np.float32)
    values[:] = filler
    values[slice(LIMIT - length, None) if front else slice(length)] = real(length, seed)
    return values


def real(length, seed=0):
    return 1.0 + np.arange(length)[:, None] + [10 * seed, 0.5]


def frames(rows, lengths=None):
    return Frames(np.stack(rows), None if lengths is None else np.array(lengths))


def rows_of(lengths, **options):
    return [row(length, seed=seed, **options) for seed, length in enumerate(lengths)]


def assert_found(part, found, lengths):
    assert found.tolist() == list(lengths)
    for seed, length in enumerate(lengths):
        np.testing.assert_allclose(part.values[seed, :length], real(length, seed), rtol=1e-6)


FILLERS = {"zero": 0.0, "NaN": np.nan, "standardized": STANDARDIZED, "sentinel": -1.0}
LENGTHS = {
    "one row padded": [LIMIT, LIMIT, LIMIT, 4],
    "most rows padded": [3, LIMIT, 5, 2],
    "a row without frames": [0, 5, LIMIT, 3],
    "one frame of padding": [LIMIT - 1, 4, 3, LIMIT],
    "one frame left": [1, 4, 5, LIMIT],
    "no padding": [LIMIT] * 4,
}


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_the_frames_of_every_row_are_found(lengths, filler, front, declared):
    part = frames(rows_of(lengths, front=front, filler=filler), lengths if declared else None)
    assert_found(part, unpad("audio", {"train": part})["train"], lengths)


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
def test_a_split_does_not_decide_for_another(filler):
    lengths = {"train": [3, 4, LIMIT], "valid": [LIMIT, LIMIT, LIMIT], "test": [LIMIT, LIMIT, 6]}
    parts = {name: frames(rows_of(lengths[name], filler=filler)) for name in SPLITS}
    found = unpad("audio", parts)
    for name in SPLITS:
        assert_found(parts[name], found[name], lengths[name])
        assert any("begins with padding" in note for note in parts[name].notes) is (name != "valid")


def test_without_lengths_rows_may_be_padded_at_different_ends():
    rows = [row(3), row(5, front=False, seed=1), np.roll(row(4, seed=2), -2, axis=0), row(LIMIT, seed=3)]
    part = frames(rows)
    assert_found(part, unpad("audio", {"train": part})["train"], [3, 5, 4, LIMIT])


def test_by_lengths_rows_at_different_ends_are_refused_and_named_in_every_split():
    lengths = [2, 3, 2, 3, 2, 3, LIMIT]
    parts = {
        name: frames(rows_of(lengths, front=name == "train"), lengths if name != "valid" else [LIMIT] * len(lengths))
        for name in SPLITS
    }
    expected = (
        r"expected audio padded at one end, found rows padded at the front \(train 0, 1, 2, 3, 4 and 1 more\), and "
        r"rows padded at the end \(test 0, 1, 2, 3, 4 and 1 more\), by audio_lengths; pad all rows at the end."
    )
    with pytest.raises(DataError, match=expected):
        unpad("audio", parts)


def test_by_lengths_noise_beside_padding_at_the_front_is_refused():
    noise = np.random.default_rng(0).standard_normal((LIMIT, 2)).astype(np.float32)
    part = frames([row(3), noise], [3, 5])
    with pytest.raises(DataError, match=r"at the front \(train 0\), and rows padded at neither end \(train 1\)"):
        unpad("audio", {"train": part})


def test_by_lengths_a_row_that_tells_nothing_follows_the_others():
    silent = row(4)
    silent[-4:] = silent[:4] = 0  # two frames of a real 6 are silent at either end, whichever end is padded
    silent[3:5] = 7
    part = frames([row(3), silent, np.zeros((LIMIT, 2), np.float32)], [3, 5, 2])
    assert unpad("audio", {"train": part})["train"].tolist() == [3, 5, 2]
    assert part.values[1, :5, 0].tolist() == [7, 7, 0, 0, 0]


def test_zeros_within_a_row_stay():
    values = row(6)
    values[4] = 0
    part = frames([values])
    assert unpad("audio", {"train": part})["train"].tolist() == [6]
    assert part.values[0, :6, 1].tolist() == [1.5, 2.5, 0, 4.5, 5.5, 6.5]


REAL = {  # content without padding that repeats frames
    "constant rows": [np.ones((LIMIT, 2))] * 3,
    "one frame twice": [np.concatenate([real(1), real(LIMIT - 1)])],
    "every frame twice": [np.repeat(real(LIMIT // 2, seed), 2, axis=0) for seed in range(3)],
    "a pulse of 1 and 2": [1 + np.array([[0, 0, 0, 1, 1, 0, 1, 0]]).T, 1 + np.array([[1, 1, 1, 1, 0, 0, 1, 0]]).T],
}


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("kind", REAL)
def test_content_that_repeats_is_not_padding(kind, declared):
    rows = [np.asarray(values, np.float32) for values in REAL[kind]]
    part = frames(rows, [LIMIT] * len(rows) if declared else None)
    assert unpad("audio", {"train": part})["train"].tolist() == [LIMIT] * len(rows)
    np.testing.assert_array_equal(part.values, np.stack(rows))
    assert not part.notes


def test_repeated_frames_taken_as_padding_are_said():
    part = frames(rows_of([LIMIT, 3], filler=STANDARDIZED))
    unpad("audio", {"train": part})
    assert part.notes == [
        "audio begins or ends with equal frames that are not zero in 1 of 2 rows, such as row 1: taken as padding",
        "audio begins with padding in 1 of 2 rows: their frames were moved to the start",
    ]
