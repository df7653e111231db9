"""ALMT: what guides what, layer by layer."""

import torch
from torch import nn

from baselines.almt import ALMT

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}


def make():
    return ALMT(WIDTHS, LENGTHS, 1, dominant="text", dim=8, num_tokens=2, num_heads=2, head_dim=4).double()


def features():
    return {name: torch.randn(3, LENGTHS[name], width).double() for name, width in WIDTHS.items()}


def test_it_has_the_published_number_of_parameters_less_eight_unread_positions():
    """2.60 M in the authors' code, where the positions of the language tokens in fusion reach no output."""
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = ALMT(widths, lengths, 1, dominant="text")
    assert sum(part.numel() for part in core.parameters()) == 2_603_649 - 8 * 128


def test_every_scale_of_language_guides_one_layer_of_the_hyper_modality():
    core, x = make(), features()
    tokens = {name: core.encoders[name](core.projections[name](part)) for name, part in x.items()}
    hyper, language = torch.ones(3, 2, 8).double(), tokens["text"] + core.dominant_encoder.positions.positions
    for layer, block in zip(core.hyper, [*core.dominant_encoder.transformer.blocks, None], strict=True):
        hyper = layer(hyper, language, {name: tokens[name] for name in ("audio", "vision")})
        language = block(language) if block else None
    torch.testing.assert_close(core(x).hyper, hyper)


def test_a_learned_token_asks_the_hyper_modality():
    """The first row of a cross-modal transformer whose other rows are the language tokens."""
    core, x = make(), features()
    output = core(x)
    source = torch.cat([core.source.tokens.expand(3, 1, -1), output.hyper], dim=1) + core.source.positions
    rows = torch.cat([core.source.tokens.expand(3, 1, -1) + core.target.positions, torch.randn(3, 2, 8)], dim=1)
    for block in core.cross:
        attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
        weights = [part.weight for part in (block.query, block.key, block.value)]
        attention.in_proj_weight.data, attention.in_proj_bias.data = torch.cat(weights), torch.zeros(24).double()
        attention.out_proj.load_state_dict(block.proj.state_dict())
        keys, values = block.key_norm(source), block.value_norm(source)
        rows = rows + attention(block.query_norm(rows), keys, values)[0]
        rows = rows + block.ffn(block.ffn_norm(rows))
    torch.testing.assert_close(output.prediction, core.head(rows[:, 0]))
