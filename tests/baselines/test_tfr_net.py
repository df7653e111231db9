"""TFR-Net: its gates and its losses, against PyTorch's packed GRU and loops."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.tfr_net import WEIGHTS, GatedGru, TFRNet, TfrNetOutput


def make():
    return TFRNet({"text": 2, "audio": 3}, {"text": 5, "audio": 5}, 1, dim=4, depth=1, num_heads=2)


def test_it_has_the_published_number_of_parameters():
    """14.85 M in Table 6 of the DERL paper."""
    with torch.device("meta"):
        widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
        core = TFRNet(widths, lengths, 1)
    assert sum(part.numel() for part in core.parameters()) == 14_850_620


def test_the_gate_reads_a_packed_bidirectional_gru():
    gate, packed = GatedGru(3, 4, 2).double().eval(), nn.GRU(3, 4, 2, batch_first=True, bidirectional=True).double()
    for level, pair in enumerate(gate.layers):
        for ending, single in zip(("", "_reverse"), pair, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(packed, f"{name}_l{level}{ending}").data = getattr(single, f"{name}_l0").data
    x, lengths = torch.randn(3, 6, 3).double(), torch.tensor([6, 2, 4])
    sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    states = pad_packed_sequence(packed(sequence)[0], batch_first=True)[0]
    opened = gate.gate(states.mT).mT.sigmoid()
    rows = gate.mix(torch.cat([x, states.tanh() * opened], dim=-1)).tanh()
    expected = torch.stack([rows[index, :length].amax(0) for index, length in enumerate(lengths)])
    torch.testing.assert_close(gate(x, torch.arange(6) < lengths[:, None]), expected)


def test_masked_frames_are_as_if_they_were_cut_out():
    gate = GatedGru(3, 4, 2).eval()
    x, mask = torch.randn(1, 6, 3), torch.tensor([[True, False, True, True, False, True]])
    torch.testing.assert_close(gate(x, mask), gate(x[mask][None], torch.ones(1, 4, dtype=torch.bool)))
    assert not gate(x, torch.zeros_like(mask)).any()


def test_only_what_is_missing_is_rebuilt():
    rebuilt, complete = (
        {name: 3 * torch.randn(2, 5, width).double() for name, width in (("text", 2), ("audio", 3))} for _ in range(2)
    )
    missing = {name: torch.rand(2, 5) < 0.5 for name in rebuilt}
    found = make().losses(TfrNetOutput(torch.zeros(2, 1), rebuilt), complete, missing)
    for name in rebuilt:
        gaps = (rebuilt[name] - complete[name])[missing[name]].abs().flatten().tolist()
        errors = [0.5 * gap**2 if gap < 1 else gap - 0.5 for gap in gaps]
        assert found[f"{name}_reconstruction"].item() == pytest.approx(WEIGHTS[name] * sum(errors) / len(errors))


def test_a_batch_of_one_sample_can_be_trained_on():
    output = make()({"text": torch.randn(1, 5, 2), "audio": torch.randn(1, 5, 3)})
    assert output.prediction.isfinite().all()
