"""CubeMLP: its layers, encoders and windows, against loops and packed GRUs in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.cube_mlp import AxisMlp, CubeMLP, GruEncoder, window_means

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 4, "audio": 9, "vision": 7}


def make():
    core = CubeMLP(WIDTHS, LENGTHS, 1, length=4, dim=4, sizes=[(3, 5), (2, 3)]).double().eval()
    for parameter in core.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return core


def test_it_has_the_published_number_of_parameters():
    """983,987 in the authors' code without BERT, with the options that it gives for MOSI and the widths used here."""
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = CubeMLP(widths, lengths, 1)
    assert sum(part.numel() for part in core.parameters()) == 983_987


def mixed(layer, values):
    """``P x + MLP(LayerNorm(x))`` of one list of numbers."""

    def linear(module, x):
        bias = [0.0] * module.out_features if module.bias is None else module.bias.tolist()
        rows = zip(module.weight.tolist(), bias, strict=True)
        return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in rows]

    mean = sum(values) / len(values)
    scale = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + 1e-6)
    weight, bias = layer.norm.weight.tolist(), layer.norm.bias.tolist()
    normal = [(v - mean) / scale * w + b for v, w, b in zip(values, weight, bias, strict=True)]
    hidden = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in linear(layer.enter, normal)]
    return [a + b for a, b in zip(linear(layer.shortcut, values), linear(layer.leave, hidden), strict=True)]


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_layer_mixes_one_axis_alone(axis):
    torch.manual_seed(0)
    cube = torch.randn(2, 4, 3, 5).double()
    layer = AxisMlp(axis, cube.shape[axis], 6, 0.5).double().eval()
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    found = layer(cube).movedim(axis, -1).flatten(0, 2)
    lines = cube.movedim(axis, -1).flatten(0, 2)
    torch.testing.assert_close(found.tolist(), [mixed(layer, line.tolist()) for line in lines])


def test_steps_then_modalities_then_channels_are_mixed_and_the_mean_step_is_scored():
    core, seen = make(), []
    core.layers.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    output = core({name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()})
    cube = seen[0]
    assert cube.shape == (2, 4, 3, 4)  # samples, steps, modalities, channels
    for layer in core.layers:
        assert [mlp.axis for mlp in layer] == [1, 2, 3]
        for mlp in layer:
            cube = mlp(cube)
    torch.testing.assert_close(output.cube, cube)
    summary = torch.cat([cube[:, :, modality].mean(1) for modality in range(3)], dim=1)
    torch.testing.assert_close(output.prediction, core.head(summary))


def test_the_directions_of_a_packed_gru_are_added():
    encode = GruEncoder(3, 4, 2).double()
    packed = nn.GRU(3, 4, 2, batch_first=True, bidirectional=True).double()
    for level, pair in enumerate(encode.layers):
        for ending, single in zip(("", "_reverse"), pair, strict=True):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                wanted = f"{name}_l{level}{ending}"
                if level and name == "weight_ih":
                    assert getattr(packed, wanted).shape == single.weight_ih_l0.shape
                getattr(packed, wanted).data = getattr(single, f"{name}_l0").data
    x, lengths = torch.randn(3, 6, 3).double(), torch.tensor([6, 2, 4])
    sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    states = pad_packed_sequence(packed(sequence)[0], batch_first=True)[0]
    expected = encode.norm(states[..., :4] + states[..., 4:]).relu()
    mask = torch.arange(6) < lengths[:, None]
    torch.testing.assert_close(encode(x, mask)[mask], expected[mask])


def test_a_masked_frame_keeps_its_place_and_is_not_read():
    encode = GruEncoder(3, 4, 2)
    x, mask = torch.randn(1, 6, 3), torch.tensor([[False, True, False, True, True, False]])
    expected = encode(x[mask][None], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(encode(x, mask)[mask], expected[0])


def test_long_sequences_are_averaged_in_windows_over_their_real_frames():
    x, mask = torch.randn(2, 7, 3).double(), torch.tensor([[1, 1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 0, 1, 0]]).bool()
    means, real = window_means(x, mask, 3)
    assert real.tolist() == [[True, False, True], [True, True, False]]
    for sample in range(2):
        for window in range(3):
            frames = [x[sample, i].tolist() for i in range(3 * window, min(3 * window + 3, 7)) if mask[sample, i]]
            expected = [sum(values) / len(values) for values in zip(*frames, strict=True)] or [0.0] * 3
            assert means[sample, window].tolist() == pytest.approx(expected)


def test_what_is_masked_is_zeros_in_the_cube():
    core, seen = make(), []
    core.layers.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    masks = {name: torch.ones(2, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["audio"][0] = False
    masks["text"][1, 2:] = False
    core({name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}, masks)
    filled = seen[0].any(-1)  # audio is averaged over 3 frames a step, vision over 2; modalities are in order of name
    assert filled[0, :, 0].tolist() == [False] * 4
    assert filled[1, :, 0].tolist() == [True, True, True, False]
    assert filled[1, :, 1].tolist() == [True, True, False, False]
    assert filled[1, :, 2].tolist() == [True] * 4
