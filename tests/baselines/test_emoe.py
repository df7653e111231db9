"""EMOE: its router, its fusion and its losses, against loops in float64."""

import math

import pytest
import torch

from baselines.emoe import EMOE, FLOOR, TEMPERATURE, WEIGHTS, EmoeOutput, EmoeParts, ModalityWeights

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}


def make():
    return EMOE(WIDTHS, LENGTHS, 1, dim=4, depth=1, num_heads=2, router_dim=5).double().eval()


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def test_it_has_the_published_number_of_parameters_less_three_unread_layers():
    """207.9 M in the authors' code on unaligned data, where three convolutions reach no output."""
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = EMOE(widths, lengths, 1)
        lean = EMOE(widths, lengths, 1, router_dim=64)
    counts = [sum(part.numel() for part in model.parameters()) for model in (core, lean)]
    assert counts == [207_852_281 - 3 * 256 * 256, 13_668_305]
    router = sum(part.numel() for part in core.router.parameters())
    assert router / counts[0] == pytest.approx(0.946, abs=5e-4)


def test_the_router_weights_what_is_present():
    router = ModalityWeights(6, 4, 3).double()
    x, present = torch.randn(4, 6).double(), torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    weights = router(x, present)
    for row in range(4):
        hidden = router.enter(x[row]).tolist()
        hidden = [max(value / math.hypot(*hidden), 0) for value in hidden]
        scores = router.leave(torch.tensor(hidden, dtype=torch.float64)).tolist()
        left = [index for index in range(3) if present[row, index]]
        expected = [0.0] * 3
        for index, share in zip(left, softmax(scores[index] / TEMPERATURE for index in left), strict=True):
            expected[index] = share
        assert weights[row].tolist() == pytest.approx(expected, abs=1e-6)  # the softmax is in float32


def test_the_router_reads_every_frame_in_its_place_brought_to_one_length():
    core, seen = make(), []
    core.router.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.rand(2, length) < 0.7 for name, length in LENGTHS.items()}
    core(features, masks)
    assert core.align.keys() == {"audio", "vision"}
    for row in range(2):
        expected = []
        for step in range(7):
            for name in core.names:
                x = features[name][row] * masks[name][row, :, None]
                if name in core.align:
                    expected += (core.align[name].weight[step] @ x + core.align[name].bias[step]).tolist()
                else:
                    expected += x[step].tolist()
        assert seen[0][row].tolist() == pytest.approx(expected)


def test_the_fused_features_are_the_experts_times_their_weights():
    core, seen = make(), {}
    core.unit.register_forward_pre_hook(lambda module, args: seen.update(fused=args[0]))
    for name, unit in core.units.items():
        unit.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0]}))
    for module in core.modules():
        module.training = module is core  # the experts' predictions, and no dropout
    output = core({name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()})
    for row in range(2):
        for unit in range(4):
            terms = [output.weights[row, m].item() * seen[name][row, unit].item() for m, name in enumerate(core.names)]
            assert seen["fused"][row, unit].item() == pytest.approx(sum(terms))
    for name in core.names:
        torch.testing.assert_close(output.parts.guesses[name], core.heads[name](core.units[name](seen[name])))


def test_losses_are_those_of_the_paper():
    core = make()
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]]).bool()
    weights = torch.rand(4, 3).double() * present
    weights = (weights / weights.sum(1, keepdim=True).clamp(min=1e-9)).requires_grad_()
    own = {name: torch.randn(4, 5).double().requires_grad_() for name in core.names}
    fused = torch.randn(4, 5).double()
    errors, distances = ({name: torch.rand(4).double() for name in core.names} for _ in range(2))
    output = EmoeOutput(torch.zeros(4, 1), weights, EmoeParts(fused, own, {}, present))
    found = core.losses(output, errors, distances)
    experts = []
    for m, name in enumerate(core.names):
        rows = [row for row in range(4) if present[row, m]]
        experts.append(sum(errors[name][row].item() for row in rows) / len(rows))
    balances, gaps, teachings = [], [], []
    for row in (0, 1, 3):
        w = weights[row].tolist()
        balances.append(3 * sum(share * math.log(share) for share in w if share))
        strengths = [
            1 / (distances[name][row].item() + FLOOR) if present[row, m] else 0.0 for m, name in enumerate(core.names)
        ]
        gaps.append(sum((s / sum(strengths) - share) ** 2 for s, share in zip(strengths, w, strict=True)) / 3)
        sums = [sum(w[m] * own[name][row, unit].item() for m, name in enumerate(core.names)) for unit in range(5)]
        pairs = zip(softmax(fused[row].tolist()), softmax(sums), strict=True)
        teachings.append(sum((a - b) ** 2 for a, b in pairs) / 5)
    assert found["experts"].item() == pytest.approx(WEIGHTS["experts"] * sum(experts) / 3)
    for name, terms in (("balance", balances), ("importance", gaps), ("distillation", teachings)):
        assert found[name].item() == pytest.approx(WEIGHTS[name] * sum(terms) / 3)
    sum(found.values()).backward()
    assert all(x.grad is None for x in own.values())  # they teach, and are not taught
    assert weights.grad.isfinite().all()
