"""TransM: its translations, what is scored and its losses, against plain attention and loops in float64."""

import math

import pytest
import torch

from baselines.crossmodal import sinusoids
from baselines.transm import HIDDEN, WEIGHT, TransM, TransMOutput

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 4, "audio": 6, "vision": 5}


def make():
    torch.manual_seed(0)
    core = TransM(WIDTHS, LENGTHS, 1, dominant="text", dim=8, gru_dim=3, depth=2, decoder_depth=2, num_heads=2)
    for parameter in core.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return core.double().eval()


def test_it_has_the_parameters_of_the_published_sizes():
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = TransM(widths, lengths, 1, dominant="text")
    attention, norm = 4 * (100 * 100 + 100), 2 * 100
    expected = sum(2 * 3 * 300 * (width + 300 + 2) + 600 * 100 + 100 for width in widths.values())
    for name in ("audio", "vision"):
        hidden = HIDDEN.get(name, 200)
        ffn = 100 * hidden + hidden + hidden * 100 + 100
        expected += 2 * (10 * (attention + ffn + 2 * norm) + 5 * (2 * attention + ffn + 3 * norm))
        expected += 101 * (widths[name] + widths["text"])
    expected += 7 * 100 + 1
    assert sum(part.numel() for part in core.parameters()) == expected == 8_592_462


def attended(module, queries, keys):
    """Multi-head attention of one sample, head by head."""
    dim = queries.shape[1]
    parts = [
        x @ module.in_proj_weight[i * dim : (i + 1) * dim].T + module.in_proj_bias[i * dim : (i + 1) * dim]
        for i, x in enumerate((queries, keys, keys))
    ]
    found = []
    for query, key, value in zip(*(part.split(dim // module.num_heads, dim=1) for part in parts), strict=True):
        found.append((query @ key.T / math.sqrt(query.shape[1])).softmax(1) @ value)
    return torch.cat(found, dim=1) @ module.out_proj.weight.T + module.out_proj.bias


def read(stack, x, source=None):
    """Post-norm transformer layers (Vaswani et al., 2017) on one sample."""
    x = x + sinusoids(x[None])
    for layer in stack.layers:
        x = layer.norm1(x + attended(layer.self_attn, x, x))
        if source is not None:
            x = layer.norm2(x + attended(layer.multihead_attn, x, source))
        norm = layer.norm2 if source is None else layer.norm3
        x = norm(x + layer.linear2(layer.linear1(x).relu()))
    return x


def alone(core, features):
    """What one sample without padding is scored and translated to."""
    encoded = {}
    for name, project in core.projections.items():
        ((forth, back),) = core.grus[name]
        x = features[name][None]
        states = torch.cat([forth(x)[0], back(x.flip(1))[0].flip(1)], dim=-1)
        encoded[name] = project(states)[0].tanh()
    found, translations = [encoded[name] for name in sorted(WIDTHS)], {}
    for name in ("audio", "vision"):
        first = read(core.there_encoders[name], encoded["text"])
        between = read(core.there_decoders[name], encoded[name], first)
        second = read(core.back_encoders[name], between)
        again = read(core.back_decoders[name], encoded["text"], second)
        found += [first, second]
        translations[name] = core.there_outputs[name](between), core.back_outputs[name](again)
    return core.head(torch.cat([x.mean(0) for x in found])), translations


def test_text_is_translated_there_and_back_and_the_encodings_are_scored():
    core = make()
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    lengths = {"text": [4, 2], "audio": [3, 6], "vision": [5, 1]}
    masks = {name: torch.arange(LENGTHS[name]) < torch.tensor(part)[:, None] for name, part in lengths.items()}
    with torch.no_grad():
        prediction = core(features, masks).prediction
        core.train()
        for module in core.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
        output = core(features, masks)
        torch.testing.assert_close(output.prediction, prediction)
        for row in range(2):
            sizes = {name: part[row] for name, part in lengths.items()}
            score, translations = alone(core, {name: x[row, : sizes[name]] for name, x in features.items()})
            torch.testing.assert_close(prediction[row], score)
            for name, (there, back) in translations.items():
                torch.testing.assert_close(output.there[name][row, : sizes[name]], there)
                torch.testing.assert_close(output.back[name][row, : sizes["text"]], back)


def test_an_absent_modality_is_one_frame_of_zeros():
    core = make()
    features = {name: torch.randn(1, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.ones(1, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["audio"][:] = False
    expected = core(features | {"audio": torch.zeros(1, 1, 5).double()}).prediction
    torch.testing.assert_close(core(features, masks).prediction, expected)


def test_losses_are_absolute_errors_of_real_frames_that_were_translated():
    complete = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    there, back = (
        {name: torch.randn_like(complete[key or name]) for name in ("audio", "vision")} for key in ("", "text")
    )
    frames, real = ({name: torch.rand(2, length) < 0.6 for name, length in LENGTHS.items()} for _ in range(2))
    found = make().losses(TransMOutput(torch.zeros(2, 1), there, back, frames), complete, real)
    for name in ("audio", "vision"):
        for label, guess, target in ((f"to_{name}", there[name], name), (f"from_{name}", back[name], "text")):
            gaps = (guess - complete[target])[frames[target] & real[target]].abs().flatten().tolist()
            assert found[label].item() == pytest.approx(WEIGHT * sum(gaps) / len(gaps))


def test_the_target_of_a_translation_is_a_constant():
    core = make().train()
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    complete = {name: x.clone().requires_grad_() for name, x in features.items()}
    real = {name: torch.ones(2, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    loss = sum(core.losses(core(features), complete, real).values())
    assert torch.autograd.grad(loss, list(complete.values()), allow_unused=True) == (None, None, None)
