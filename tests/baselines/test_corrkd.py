"""CorrKD: its networks and its three losses, against loops in float64."""

import math

import pytest
import torch

from baselines.corrkd import MARGIN, CorrKD, CorrKdOutput

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}
PRESENT = torch.tensor([True, True, False, True, True, True])


def make(num_outputs=1):
    torch.manual_seed(0)
    return CorrKD(WIDTHS, LENGTHS, num_outputs, dim=4, depth=1, num_heads=2).double()


def draw(num_outputs):
    """What a student and a teacher make of a batch, of which one sample has nothing."""
    torch.manual_seed(1)
    parts = [(torch.randn(6, num_outputs), torch.randn(6, 5) / 4) for _ in range(2)]
    student, teacher = (CorrKdOutput(*(x.double() for x in pair), PRESENT) for pair in parts)
    return student, teacher


def test_it_has_two_networks_of_one_size():
    widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
    with torch.device("meta"):
        core = CorrKD(widths, lengths, 1)
    layer = 4 * (40 * 40 + 40) + (40 * 160 + 160) + (160 * 40 + 40) + 4 * 40
    network = sum(3 * 40 * width + 40 for width in widths.values()) + 3 * (2 * layer + 2 * 40) + (3 * 40 + 1)
    counts = [sum(part.numel() for part in model.parameters()) for model in (core.student, core.teacher, core)]
    assert counts == [network, network, 2 * network + 2 * (2 * 64 + 64 + 64 + 1)] == [213_961, 213_961, 428_436]


def test_representations_are_concatenated_means_of_real_frames():
    core = make().eval()
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.ones(2, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["audio"][0] = masks["text"][1, 5:] = False
    found = core(features, masks)
    for row, rows in enumerate(({"text": 7, "vision": 8}, {"audio": 9, "text": 5, "vision": 8})):
        expected = torch.zeros(12).double()
        for place, name in enumerate(sorted(WIDTHS)):
            if name in rows:
                real = features[name][row : row + 1, : rows[name]]
                encoded = core.student.encoders[name](core.student.convolutions[name](real.mT).mT)
                expected[4 * place : 4 * place + 4] = encoded[0].mean(0)
        torch.testing.assert_close(found.joint[row], expected)
    torch.testing.assert_close(found.prediction, core.head(found.joint))


def test_samples_are_near_their_own_and_apart_from_others():
    student, teacher = draw(1)
    rows = [row for row in range(6) if PRESENT[row]]
    total = 0.0
    for i in rows:
        for j in rows:
            if i != j:
                near = math.dist(student.joint[i].tolist(), teacher.joint[i].tolist())
                apart = math.dist(student.joint[i].tolist(), teacher.joint[j].tolist())
                total += near**2 + max(0, MARGIN - apart) ** 2
    found = make().losses(student, teacher, torch.zeros(6, dtype=torch.long))["samples"]
    assert found.item() == pytest.approx(total / 20)


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


@pytest.mark.parametrize(("num_outputs", "groups"), [(1, [1, 0, 0, -1, 1, 0]), (4, [3, 0, 0, 3, 1, 0])])
def test_categories_are_compared_by_their_prototypes(num_outputs, groups):
    student, teacher = draw(num_outputs)
    rows = [row for row in range(6) if PRESENT[row] and groups[row] >= 0]
    gaps = []
    for category in {groups[row] for row in rows}:
        similarities = []
        for joint in (student.joint.tolist(), teacher.joint.tolist()):
            members = [joint[row] for row in rows if groups[row] == category]
            prototype = [sum(unit) / len(members) for unit in zip(*members, strict=True)]
            similarities.append([cosine(joint[row], prototype) for row in rows])
        gaps += [abs(a - b) for a, b in zip(*similarities, strict=True)]
    found = make(num_outputs).losses(student, teacher, torch.tensor(groups))["categories"]
    assert found.item() == pytest.approx(sum(gaps) / len(gaps))


def softplus(value):
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(("num_outputs", "groups"), [(1, [1, 0, 0, -1, 1, 0]), (3, [2, 0, 0, 2, 1, 0])])
def test_responses_have_much_information_in_common(num_outputs, groups):
    core, (student, teacher) = make(num_outputs), draw(num_outputs)
    rows = [row for row in range(6) if PRESENT[row] and groups[row] >= 0]
    total = 0.0
    for name, estimate in core.estimators.items():
        responses = []
        for prediction in (student.prediction.tolist(), teacher.prediction.tolist()):
            found = {}
            for row in rows:
                logits = [0.0, *prediction[row]] if num_outputs == 1 else prediction[row]
                shares = [math.exp(value) / sum(map(math.exp, logits)) for value in logits]
                own = shares.pop(groups[row])
                found[row] = [own] if name == "target" else shares
            responses.append(found)
        own, other = [], []
        for i in rows:
            for j in rows:
                value = estimate.score(torch.tensor(responses[0][i] + responses[1][j], dtype=torch.float64)).item()
                (own if i == j else other).append(softplus(-value) if i == j else softplus(value))
        total += sum(own) / len(own) + sum(other) / len(other)
    found = core.losses(student, teacher, torch.tensor(groups))["responses"]
    assert found.item() == pytest.approx(total)


def test_distillation_moves_the_student_alone():
    core = make().train()
    features = {name: torch.randn(6, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    taught = core.teach(features)
    assert taught.prediction.requires_grad
    terms = core.losses(core(features), taught, torch.tensor([1, 0, 0, -1, 1, 0]))
    sum(terms.values()).backward()
    assert all(part.grad is None for part in core.teacher.parameters())
    assert all(part.grad.any() for part in core.student.parameters())


@pytest.mark.parametrize("groups", [[-1] * 6, [0] * 6])
def test_losses_of_hardly_any_categories_have_gradients(groups):
    core, (student, teacher) = make(), draw(1)
    joint = student.joint.clone().requires_grad_()
    terms = core.losses(student._replace(joint=joint), teacher, torch.tensor(groups))
    sum(terms.values()).backward()
    assert joint.grad.isfinite().all()
    assert bool(terms["categories"]) == (groups[0] == 0)
