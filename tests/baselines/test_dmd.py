"""DMD: its losses and its graphs, against loops in float64."""

import math
from itertools import permutations

import pytest
import torch

from baselines.dmd import (
    DECOUPLING,
    DISTILLATION,
    DMD,
    INNER,
    MARGIN,
    Graph,
    Guess,
    distillation_loss,
    margin_loss,
)

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}
LABELS = torch.tensor([1.0, 1.0, -2.0, 0.5], dtype=torch.float64)


def cosine(a, b):
    a, b = a.tolist(), b.tolist()
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_it_has_the_published_number_of_parameters_less_three_unread_layers():
    """12.58 M in Table 6 of the DERL paper; the authors' code has three layers that no output reads."""
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = DMD(widths, lengths, 1)
    unread = sum(50 * (length - 4) * 50 + 50 for length in lengths.values())
    assert sum(part.numel() for part in core.parameters()) == 12_578_232 - unread == 10_295_582


@pytest.mark.parametrize("labels", [LABELS, torch.tensor([1, 1, 0, 2])], ids=["scores", "classes"])
def test_the_margin_loss_compares_every_triple(labels):
    features = {name: torch.randn(4, 3).double() for name in WIDTHS}
    present = {name: torch.ones(4, dtype=torch.bool) for name in WIDTHS}
    present["audio"][1] = False
    places = [(name, row) for name in WIDTHS for row in range(4) if present[name][row]]
    hinges = []
    for m, i in places:
        for n, j in places:
            for o, k in places:
                if m != n and m == o and labels[i] == labels[j] and labels[i] != labels[k]:
                    gap = abs(labels[i] - labels[k]).item() if labels.is_floating_point() else 1
                    near, far = cosine(features[m][i], features[n][j]), cosine(features[m][i], features[o][k])
                    hinges.append(max(0.0, MARGIN * gap - near + far))
    assert margin_loss(features, present, labels).item() == pytest.approx(sum(hinges) / len(hinges))


def test_edges_are_a_softmax_over_the_pairs_that_are_present():
    graph = Graph(1, 3, 2).double()
    guesses = {name: Guess(torch.randn(4, 1).double(), torch.randn(4, 3).double()) for name in WIDTHS}
    present = {name: torch.ones(4, dtype=torch.bool) for name in WIDTHS}
    present["audio"][0] = present["text"][1] = present["vision"][1] = False
    edges, pairs = graph(guesses, present), list(permutations(guesses, 2))
    for row in range(4):
        nodes = {name: torch.cat([graph.outputs(x[row]), graph.features(y[row])]) for name, (x, y) in guesses.items()}
        powers = {
            (i, j): math.exp(graph.edge(torch.cat([nodes[i], nodes[j]])).item() / 8)
            for i, j in pairs
            if present[i][row] and present[j][row]
        }
        expected = [powers.get(pair, 0.0) / max(sum(powers.values()), 1e-9) for pair in pairs]
        assert edges[row].tolist() == pytest.approx(expected, abs=1e-6)  # the softmax is in float32


def test_a_student_is_pulled_and_its_teacher_is_not():
    guesses = {name: Guess(torch.randn(4, 2).double().requires_grad_(), None) for name in ("a", "b")}
    edges = torch.rand(4, 2).double()
    loss = distillation_loss(guesses, edges)
    loss.backward()
    a, b = guesses["a"].outputs, guesses["b"].outputs
    gaps = [sum(abs(x - y) for x, y in zip(a[row].tolist(), b[row].tolist(), strict=True)) for row in range(4)]
    assert loss.item() == pytest.approx(sum(gap * edges[row].sum().item() for row, gap in enumerate(gaps)) / 4)
    torch.testing.assert_close(a.grad, (a - b).sign().detach() * edges[:, :1] / 4)
    torch.testing.assert_close(b.grad, (b - a).sign().detach() * edges[:, 1:] / 4)


def test_losses_are_those_of_the_paper():
    core = DMD(WIDTHS, LENGTHS, 1, dim=4, depth=1, num_heads=2).double()
    features = {name: torch.randn(4, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.arange(length) < torch.tensor([[length], [6], [1], [0]]) for name, length in LENGTHS.items()}
    parts = core(features, masks).parts
    found = core.losses(parts, LABELS, lambda outputs, labels: (outputs[:, 0] - labels).abs())
    sums = dict.fromkeys(("rebuilt", "own_again", "cosine"), 0.0)
    for name, frames in parts.frames.items():
        places = frames.nonzero().tolist()
        for row, step in places:
            for field, target in (("rebuilt", parts.projected), ("own_again", parts.own)):
                gap = getattr(parts, field)[name][row, step] - target[name][row, step]
                sums[field] += sum(x * x for x in gap.tolist()) / 4 / len(places)
            angle = cosine(parts.common[name][row, step], parts.own[name][row, step])
            sums["cosine"] += max(0.0, angle) / len(places)
    assert found["reconstruction"].item() == pytest.approx(DECOUPLING * sums["rebuilt"])
    assert found["cycle"].item() == pytest.approx(DECOUPLING * sums["own_again"])
    assert found["orthogonality"].item() == pytest.approx(DECOUPLING * INNER * sums["cosine"])
    units = (parts.joint[:, 0] - LABELS).abs().mean().item()
    for space in parts.guesses:  # the last sample has nothing
        units += sum((guess.outputs[:3, 0] - LABELS[:3]).abs().mean().item() for guess in space.values())
    assert found["units"].item() == pytest.approx(units)
    for name, guesses, edges in zip(("common", "own"), parts.guesses, parts.edges, strict=True):
        expected = DISTILLATION * distillation_loss(guesses, edges)
        torch.testing.assert_close(found[f"{name}_distillation"], expected)
