"""MISA: its summaries, its attention and its losses, against packed LSTMs and loops in float64."""

import math
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.misa import MISA, MOMENTS, WEIGHTS, FinalStates, MisaParts, moment_discrepancy, overlap

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}


def make():
    return MISA(WIDTHS, LENGTHS, 1, dim=4, ffn_dim=8).double().eval()


def test_it_has_the_published_number_of_parameters_less_two_unread_layers():
    """1,138,033 in MMSA's version; its LayerNorm of words and its discriminator reach no output and no loss."""
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = MISA(widths, lengths, 1)
    unread = 2 * 2 * 768 + (128 * 4 + 4)
    assert sum(part.numel() for part in core.parameters()) == 1_138_033 - unread == 1_134_445


def test_a_sequence_is_summed_up_by_packed_bidirectional_lstms():
    summarize = FinalStates(3).double()
    packed = [nn.LSTM(width, 3, batch_first=True, bidirectional=True).double() for width in (3, 6)]
    for pair, whole in zip(summarize.layers, packed, strict=True):
        for ending, single in zip(("", "_reverse"), pair, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(whole, f"{name}_l0{ending}").data = getattr(single, f"{name}_l0").data
    x, lengths = torch.randn(3, 6, 3).double(), torch.tensor([6, 2, 4])
    expected, states = [], x
    for whole in packed:
        sequence = pack_padded_sequence(states, lengths, batch_first=True, enforce_sorted=False)
        found, (final, _) = whole(sequence)
        expected += [final[0], final[1]]
        states = summarize.norm(pad_packed_sequence(found, batch_first=True)[0])
    mask = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(summarize(x, mask), torch.cat(expected, dim=-1))


def test_masked_frames_are_as_if_they_were_cut_out():
    summarize = FinalStates(3)
    x, mask = torch.randn(1, 6, 3), torch.tensor([[False, True, False, True, True, False]])
    torch.testing.assert_close(summarize(x, mask), summarize(x[mask][None], torch.ones(1, 3, dtype=torch.bool)))
    assert not summarize(x, torch.zeros_like(mask)).any()


def test_an_absent_modality_has_no_part_in_the_attention():
    core, seen = make(), []
    core.hidden.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    features = {name: torch.randn(4, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.ones(4, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["audio"][0] = False
    for mask in masks.values():
        mask[3] = False
    core(features, masks)
    summaries = {
        name: core.projections[name](
            features[name].mean(1) if name == "text" else core.summarizers[name](features[name], masks[name])
        )
        for name in core.names
    }
    for row, names in ((0, ("text", "vision")), (1, core.names), (3, ())):
        rows = [core.own[name](summaries[name][row]).sigmoid() for name in names]
        rows += [core.common(summaries[name][row]).sigmoid() for name in names]
        expected = torch.zeros(6, 4).double()
        places = [place for place, name in enumerate(2 * core.names) if name in names]
        if rows:
            expected[places] = core.attend(torch.stack(rows)[None])[0]
        torch.testing.assert_close(seen[0][row], expected.flatten())


def columns(x):
    return list(zip(*x.tolist(), strict=True))


def discrepancy(x, y):
    """The central moment discrepancy of two lists of samples, unit by unit."""
    means = [[sum(unit) / len(unit) for unit in columns(part)] for part in (x, y)]
    total = math.dist(*means)
    for order in range(2, MOMENTS + 1):
        moments = []
        for part, own in zip((x, y), means, strict=True):
            units = zip(columns(part), own, strict=True)
            moments.append([sum((value - mean) ** order for value in unit) / len(unit) for unit, mean in units])
        total += math.dist(*moments)
    return total


def product(x, y):
    """The mean square of A^T B."""
    parts = []
    for part in (x, y):
        means = [sum(unit) / len(unit) for unit in columns(part)]
        rows = [[value - mean for value, mean in zip(row, means, strict=True)] for row in part.tolist()]
        parts.append([[value / (math.hypot(*row) + 1e-6) for value in row] for row in rows])
    entries = [
        sum(a[i] * b[j] for a, b in zip(*parts, strict=True)) for i in range(x.shape[1]) for j in range(y.shape[1])
    ]
    return sum(entry**2 for entry in entries) / len(entries)


def test_losses_are_those_of_the_paper():
    u, common, own, rebuilt = ({name: torch.rand(5, 4).double() for name in WIDTHS} for _ in range(4))
    present = {name: torch.ones(5, dtype=torch.bool) for name in WIDTHS}
    present["audio"][1] = present["vision"][4] = False
    core = make()
    found = core.losses(MisaParts(u, common, own, rebuilt, present))
    pairs = list(combinations(WIDTHS, 2))
    similarity = [discrepancy(common[m][present[m]], common[n][present[n]]) for m, n in pairs]
    difference = [product(own[name][present[name]], common[name][present[name]]) for name in WIDTHS]
    difference += [product(own[m][present[m] & present[n]], own[n][present[m] & present[n]]) for m, n in pairs]
    distances = []
    for name in WIDTHS:
        squares = (rebuilt[name] - u[name])[present[name]].square().flatten().tolist()
        distances.append(sum(squares) / len(squares))
    assert found["similarity"].item() == pytest.approx(WEIGHTS["similarity"] * sum(similarity) / 3)
    assert found["difference"].item() == pytest.approx(WEIGHTS["difference"] * sum(difference))
    assert found["reconstruction"].item() == pytest.approx(WEIGHTS["reconstruction"] * sum(distances) / 3)


@pytest.mark.parametrize("count", [0, 1])
def test_losses_of_hardly_any_samples_have_gradients(count):
    parts, chosen = torch.rand(2, 3, 4, requires_grad=True), torch.arange(3) < count
    loss = moment_discrepancy(parts[0], chosen, parts[1], chosen)
    (loss + overlap(*parts, chosen)).backward()
    assert (loss > 0) == (count > 0)
    assert parts.grad.isfinite().all()
    assert not parts.grad[:, count:].any()
