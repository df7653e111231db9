"""MCTN: its encoders, its attention and its losses, against packed LSTMs and loops in float64."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from baselines.mctn import MCTN, WEIGHT, Decoder, Encoder, MctnOutput

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 4, "audio": 6, "vision": 5}


def make():
    return MCTN(WIDTHS, LENGTHS, 1, dominant="text", dim=4).double()


def batch():
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    lengths = {"text": [4, 2], "audio": [3, 6], "vision": [5, 1]}
    return features, {name: torch.arange(LENGTHS[name]) < torch.tensor(part)[:, None] for name, part in lengths.items()}


def test_it_has_the_parameters_of_the_published_sizes():
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = MCTN(widths, lengths, 1, dominant="text")

    def lstm(width):
        return 4 * 32 * (width + 32 + 2)

    decoder = 32 * 32 + 32 + 32 * 32 + 32 + lstm(32)
    expected = 2 * (lstm(768) + lstm(32) + lstm(20)) + 3 * decoder + 33 * (768 + 5 + 20) + lstm(32) + 33 + 33
    assert sum(part.numel() for part in core.parameters()) == expected == 302_395


def test_an_encoder_adds_the_directions_of_a_packed_lstm():
    encode, packed = Encoder(3, 4).double(), nn.LSTM(3, 4, batch_first=True, bidirectional=True).double()
    for ending, single in zip(("", "_reverse"), encode.layers[0], strict=True):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(packed, f"{name}_l0{ending}").data = getattr(single, f"{name}_l0").data
    x, lengths = torch.randn(3, 6, 3).double(), torch.tensor([6, 2, 4])
    sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    states = pad_packed_sequence(packed(sequence)[0], batch_first=True)[0]
    torch.testing.assert_close(encode(x, torch.arange(6) < lengths[:, None]), states[..., :4] + states[..., 4:])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def product(module, x):
    bias = [0.0] * len(module.weight) if module.bias is None else module.bias.tolist()
    rows = zip(module.weight.tolist(), bias, strict=True)
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in rows]


def decoded(decoder, states, length):
    """One sample's translation, number by number."""
    dim, found = len(states[0]), []
    hidden, cell = [0.0] * dim, [0.0] * dim
    for _ in range(length):
        query = product(decoder.query, cell)
        scores = []
        for state in states:
            key = product(decoder.keys, state)
            scores += product(decoder.score, [math.tanh(k + q) for k, q in zip(key, query, strict=True)])
        weights = [math.exp(score) for score in scores]
        context = [
            sum(w * state[i] for w, state in zip(weights, states, strict=True)) / sum(weights) for i in range(dim)
        ]
        parts = decoder.cell
        gates = [
            sum(w * v for w, v in zip(wi, context, strict=True))
            + sum(w * v for w, v in zip(wh, hidden, strict=True))
            + b
            for wi, wh, b in zip(
                parts.weight_ih.tolist(),
                parts.weight_hh.tolist(),
                (parts.bias_ih + parts.bias_hh).tolist(),
                strict=True,
            )
        ]
        enter, forget, new, leave = (gates[i * dim : (i + 1) * dim] for i in range(4))
        cell = [sigmoid(f) * c + sigmoid(i) * math.tanh(g) for f, c, i, g in zip(forget, cell, enter, new, strict=True)]
        hidden = [sigmoid(o) * math.tanh(c) for o, c in zip(leave, cell, strict=True)]
        found.append(product(decoder.leave, hidden))
    return found


def test_every_step_of_a_decoder_attends_by_its_own_cell():
    torch.manual_seed(0)
    decoder = Decoder(3, 2).double()
    states, mask = torch.randn(2, 4, 3).double(), torch.tensor([[True] * 4, [True, False, True, False]])
    found = decoder(states, mask, 3)
    for row in range(2):
        assert found[row].flatten().tolist() == pytest.approx(
            [value for step in decoded(decoder, states[row, mask[row]].tolist(), 3) for value in step]
        )


def test_text_becomes_vision_and_text_again_then_audio_and_the_last_states_are_scored():
    core, (features, masks) = make(), batch()
    output = core(features, masks)
    assert core.targets == ["vision", "audio"]
    for row in range(2):
        x = {name: part[row : row + 1, masks[name][row]] for name, part in features.items()}
        whole = {name: torch.ones(1, part.shape[1], dtype=torch.bool) for name, part in x.items()}
        first = core.encoders["vision"](x["text"], whole["text"])
        vision = core.decoders["vision"](first, whole["text"], x["vision"].shape[1])
        between = core.cycle_encoder(vision, whole["vision"])
        second = core.encoders["audio"](first, whole["text"])
        expected = {
            "vision": vision,
            "text": core.cycle_decoder(between, whole["vision"], x["text"].shape[1]),
            "audio": core.decoders["audio"](second, whole["text"], x["audio"].shape[1]),
        }
        for name, part in expected.items():
            torch.testing.assert_close(output.translated[name][row, masks[name][row]], part[0])
        states = core.reader(second)[0][0]
        weights = core.score(states)[:, 0].tanh().exp()
        torch.testing.assert_close(output.prediction[row], core.head(weights / weights.sum() @ states))


def test_a_trained_model_reads_the_source_alone():
    core, (features, masks) = make().eval(), batch()
    expected = core(features, masks)
    assert not expected.translated
    others = {name: torch.randn_like(features[name]) for name in ("audio", "vision")}
    masks |= {name: ~masks[name] for name in others}
    assert torch.equal(core(features | others, masks).prediction, expected.prediction)


def test_losses_are_squared_errors_of_real_frames():
    complete, translated = (
        {name: torch.randn(2, LENGTHS[name], WIDTHS[name]).double() for name in WIDTHS} for _ in "ab"
    )
    real = {name: torch.rand(2, length) < 0.6 for name, length in LENGTHS.items()}
    found = make().losses(MctnOutput(torch.zeros(2, 1), translated), complete, real)
    for name in WIDTHS:
        squares = (translated[name] - complete[name])[real[name]].square().flatten().tolist()
        assert found[f"to_{name}"].item() == pytest.approx(WEIGHT * sum(squares) / len(squares))


def test_the_target_of_a_translation_is_a_constant():
    core, (features, masks) = make(), batch()
    complete = {name: x.clone().requires_grad_() for name, x in features.items()}
    loss = sum(core.losses(core(features, masks), complete, masks).values())
    assert torch.autograd.grad(loss, list(complete.values()), allow_unused=True) == (None, None, None)
