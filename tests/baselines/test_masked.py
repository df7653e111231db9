"""Helpers of the cores for masked frames, against loops."""

import torch

from baselines.masked import Windows, first, first_at_least, last, mean_frames, pad_frames


def test_the_first_and_the_last_real_frame_are_summaries():
    x = torch.arange(12.0).view(3, 4, 1)
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]]).bool()
    assert first(x, mask).flatten().tolist() == [0, 5, 0]
    assert last(x, mask).flatten().tolist() == [3, 6, 0]


def test_masked_frames_count_in_no_mean():
    x, mask = torch.randn(3, 4, 2), torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    expected = [x[0, mask[0]].mean(0), x[1, 2], torch.zeros(2)]
    torch.testing.assert_close(mean_frames(x.masked_fill(~mask[..., None], torch.nan), mask), torch.stack(expected))


def test_where_nothing_is_real_the_first_frame_is_unmasked():
    mask = torch.tensor([[0, 1, 0], [0, 0, 0]]).bool()
    assert first_at_least(mask).tolist() == [[False, True, False], [True, False, False]]


def test_added_frames_are_masked_zeros():
    x, mask = pad_frames(torch.ones(2, 3, 1), torch.tensor([[True, False, True], [True, True, True]]), 5)
    assert x[..., 0].tolist() == [[1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]
    assert torch.equal(mask, x[..., 0] == 1)
    assert pad_frames(torch.ones(2, 3, 1), None, 4)[1].tolist() == [[True, True, True, False]] * 2


def test_a_window_is_real_if_one_of_its_frames_is():
    windows = Windows(1, 2, 3)
    x, mask = windows(torch.randn(1, 6, 1), torch.tensor([[True, False, False, False, False, True]]))
    assert x.shape == (1, 4, 2)
    assert mask.tolist() == [[True, False, False, True]]
