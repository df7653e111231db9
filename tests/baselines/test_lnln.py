"""LNLN: its correction, its attention and its losses, against loops in float64."""

import math

import pytest
import torch

from baselines.lnln import LNLN, WEIGHTS, LnlnOutput, reverse_gradient

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}


def make():
    return LNLN(WIDTHS, LENGTHS, 1, dominant="text", dim=8, num_tokens=2, num_heads=2, head_dim=4).double()


def run(core, masks=None):
    """The output, and the corrected tokens of the dominant modality."""
    seen = []
    core.dominant_encoder.positions.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    features = {name: torch.randn(4, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    return core.eval()(features, masks), seen[0]


def test_it_has_the_published_number_of_parameters_less_one_unread_token():
    """6.48 M in Table 6 of the DERL paper."""
    with torch.device("meta"):
        widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
        core = LNLN(widths, lengths, 1, dominant="text")
    assert sum(part.numel() for part in core.parameters()) == 6_483_012 - 128


def test_the_dominant_modality_is_corrected_by_its_completeness():
    output, corrected = run(make())
    for row, share in enumerate(output.completeness.tolist()):
        assert 0 < share < 1
        pairs = zip(output.tokens["text"][row].flatten().tolist(), output.proxy[row].flatten().tolist(), strict=True)
        expected = [share * own + (1 - share) * proxy for own, proxy in pairs]
        assert corrected[row].flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_an_absent_dominant_modality_is_all_proxy():
    masks = {name: torch.ones(4, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["text"][1] = False
    output, corrected = run(make(), masks)
    assert output.completeness[1] == 0
    assert torch.equal(corrected[1], output.proxy[1])


def test_losses_are_those_of_the_paper():
    core, size = make(), 3
    tokens = [{name: torch.randn(size, 2, 8).double() for name in WIDTHS} for _ in range(2)]
    rebuilt, complete = tokens
    proxy, w, kept = torch.randn(size, 2, 8).double(), torch.rand(size).double(), torch.rand(size).double()
    present = {name: torch.ones(size, dtype=torch.bool) for name in WIDTHS}
    present["audio"][0] = present["text"][2] = False
    found = core.losses(LnlnOutput(torch.zeros(size, 1), w, proxy, {}, rebuilt), complete, kept, present)
    errors = [(w[row] - kept[row]).item() ** 2 for row in (0, 1)]
    entropies = [
        math.log(sum(map(math.exp, logits))) - logits[target]
        for samples, rows, target in ((proxy, (0, 1, 2), 1), (complete["text"], (0, 1), 0))
        for row in rows
        for logits in core.discriminator(samples[row]).tolist()
    ]
    squares = [
        square
        for name in WIDTHS
        for row in range(size)
        if present[name][row]
        for square in ((rebuilt[name][row] - complete[name][row]) ** 2).flatten().tolist()
    ]
    for name, parts in (("completeness", errors), ("adversarial", entropies), ("reconstruction", squares)):
        # the cross-entropy is in float32
        assert found[name].item() == pytest.approx(WEIGHTS[name] * sum(parts) / len(parts), rel=1e-5)


def test_the_proxy_is_taught_to_deceive_the_discriminator():
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(reverse_gradient(x), x)
    (x.detach() * reverse_gradient(x)).sum().backward()
    assert torch.equal(x.grad, -x.detach())
