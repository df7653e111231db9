"""Recurrent layers that skip masked frames."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from baselines.recurrent import FinalState


def test_a_sequence_is_summed_up_by_a_packed_lstm():
    summarize, packed = FinalState(3, 4).double(), nn.LSTM(3, 4, batch_first=True).double()
    packed.load_state_dict(summarize.lstm.state_dict())
    x, mask = torch.randn(3, 6, 3).double(), torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]])
    mask = mask.bool()
    real = torch.zeros_like(x)
    for row, own in enumerate(mask):
        real[row, : own.sum()] = x[row, own]
    sequence = pack_padded_sequence(real, mask.sum(1), batch_first=True, enforce_sorted=False)
    expected = summarize.leave(packed(sequence)[1][0][0])
    torch.testing.assert_close(summarize(x, mask), expected)
    assert not summarize(x, torch.zeros_like(mask)).any()
