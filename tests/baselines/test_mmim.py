"""MMIM: its encoders, its bounds of mutual information and its memory, against packed LSTMs and loops in float64."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from baselines.mmim import MMIM, RIDGE, WEIGHTS, MixtureEntropy, MmimParts, Predictor, contrast

WIDTHS = {"text": 6, "audio": 5, "vision": 3}
LENGTHS = {"text": 7, "audio": 9, "vision": 8}


def make(**settings):
    torch.manual_seed(0)
    return MMIM(WIDTHS, LENGTHS, 1, dominant="text", dim=8, hidden_dim=5, **settings).double()


def test_it_has_the_published_number_of_parameters_less_a_fixed_projection():
    """277,257 in the authors' code with its defaults; no optimizer there holds the projections of the entropies."""
    with torch.device("meta"):
        widths, lengths = {"text": 768, "audio": 5, "vision": 20}, {"text": 50, "audio": 375, "vision": 500}
        core = MMIM(widths, lengths, 1, dominant="text")
    projections = 2 * (16 * 4 + 4)
    assert sum(part.numel() for part in core.parameters()) == 277_257 - projections == 277_121


def test_only_the_first_real_state_of_the_text_is_read():
    core = make().eval()
    features = {name: torch.randn(2, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    masks = {name: torch.ones(2, length, dtype=torch.bool) for name, length in LENGTHS.items()}
    masks["text"][1, :3] = False
    expected = core(features, masks).prediction
    features["text"][0, 1:] = features["text"][1, 4:] = 0
    torch.testing.assert_close(core(features, masks).prediction, expected)
    features["text"][1, 3] += 1
    assert (core(features, masks).prediction != expected).flatten().tolist() == [False, True]


def test_the_likelihood_is_that_of_a_normal_distribution():
    predict, x, y = Predictor(6, 4).double(), torch.randn(5, 6).double(), torch.randn(5, 4).double()
    deviation = predict.log_variance(x).exp().sqrt()
    assert (deviation.log().abs() < 0.5).all()
    expected = Normal(predict.mean(x), deviation).log_prob(y).sum(1) + 4 * 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(predict(x, y), expected)


def entropy(components, projection):
    """Half the mean log-determinant of the covariances of projected vectors, by NumPy."""
    volumes = []
    for rows in components:
        covariance = np.cov(np.tanh(np.stack(rows) @ projection.numpy()), rowvar=False, bias=True)
        volumes.append(np.linalg.slogdet(covariance + RIDGE * np.eye(len(covariance)))[1])
    return sum(volumes) / len(volumes) / 2


def test_the_entropy_is_of_this_batch_and_of_those_that_the_memory_holds():
    estimate = MixtureEntropy(8, 2, memory=7).double()
    batches = [(torch.randn(5, 8).double(), torch.tensor(groups)) for groups in ([0, 1, 1, -1, 0],) * 4]
    for number, (y, groups) in enumerate(batches):
        rows = [pair for batch in batches[number::-1] for pair in zip(batch[0].numpy(), batch[1].tolist(), strict=True)]
        rows = rows[: 5 + 7]
        components = [[row for row, group in rows if group == component] for component in (0, 1)]
        assert estimate(y, groups).item() == pytest.approx(entropy(components, estimate.projection))


def test_components_without_vectors_do_not_count():
    estimate, y = MixtureEntropy(8, 3, memory=4).double(), torch.randn(5, 8).double()
    expected = entropy([y.numpy()], estimate.projection)
    assert estimate(y, torch.ones(5, dtype=torch.long)).item() == pytest.approx(expected)
    assert MixtureEntropy(8, 3, memory=4)(torch.randn(5, 8), torch.full((5,), -1)) == 0


def test_equal_vectors_have_an_entropy_and_a_gradient():
    y = torch.ones(5, 8, requires_grad=True)
    found = MixtureEntropy(8, 2, memory=4)(y, torch.tensor([0, 0, 0, 0, 1]))
    found.backward()
    assert found.item() == pytest.approx(math.log(RIDGE), rel=1e-4)  # half of 2 dimensions
    assert y.grad.isfinite().all()


def test_the_memory_is_never_learned_from_and_is_in_the_state_dict():
    core = make(memory=4).train()
    features = {name: torch.randn(3, LENGTHS[name], width).double() for name, width in WIDTHS.items()}
    groups = torch.tensor([0, 1, 1])
    for _ in range(2):  # the second backward pass would need the graph of the first
        core.losses(core(features).parts, groups)["entropy"].backward()
    state = core.state_dict()
    assert state["entropies.audio.memory_groups"].tolist() == [0, 1, 1, 0]
    other = make(memory=4).train()
    other.load_state_dict(state)
    parts = core(features).parts
    assert core.losses(parts, groups)["entropy"] == other.losses(parts, groups)["entropy"]


def test_a_bf16_model_has_an_entropy():
    y = torch.randn(6, 8, dtype=torch.bfloat16, requires_grad=True)
    found = MixtureEntropy(8, 2, memory=4).bfloat16()(y, torch.tensor([0, 1, 0, 1, 0, 1]))
    found.backward()
    assert found.isfinite()
    assert y.grad.isfinite().all()


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def test_a_guess_is_compared_with_the_targets_of_the_batch():
    guesses, targets = torch.randn(2, 4, 3).double()
    present = torch.tensor([True, True, False, True])
    losses = []
    for row in (0, 1, 3):
        scores = {other: cosine(guesses[row].tolist(), targets[other].tolist()) for other in (0, 1, 3)}
        losses.append(math.log(sum(map(math.exp, scores.values()))) - scores[row])
    assert contrast(guesses, targets, present).item() == pytest.approx(sum(losses) / 3)
    assert contrast(guesses, targets, present & False) == 0


def test_losses_are_those_of_the_paper():
    core = make(memory=4)
    sizes = {"text": 6, "audio": 8, "vision": 8}
    summaries = {name: torch.randn(5, size).double() for name, size in sizes.items()}
    present = {name: torch.ones(5, dtype=torch.bool) for name in sizes}
    present["text"][1] = present["audio"][4] = False
    fused, groups = torch.randn(5, 5).double(), torch.tensor([0, 1, -1, 1, 0])
    found = core.losses(MmimParts(summaries, fused, present), groups)
    likelihood = volume = 0.0
    for name in ("audio", "vision"):
        rows = [row for row in range(5) if present["text"][row] and present[name][row]]
        densities = core.predictors[name](summaries["text"][rows], summaries[name][rows])
        likelihood += sum(densities.tolist()) / len(rows)
        components = [
            [summaries[name][row].numpy() for row in range(5) if present[name][row] and groups[row] == component]
            for component in (0, 1)
        ]
        volume += entropy(components, core.entropies[name].projection)
    contrasts = [contrast(core.contrasts[name](fused), summaries[name], present[name]).item() for name in sizes]
    assert found["likelihood"].item() == pytest.approx(-WEIGHTS["likelihood"] * likelihood)
    assert found["entropy"].item() == pytest.approx(-WEIGHTS["entropy"] * volume)
    assert found["contrast"].item() == pytest.approx(WEIGHTS["contrast"] * sum(contrasts))


def test_one_modality_has_no_pair():
    core = MMIM({"audio": 5}, {"audio": 9}, 1, dominant="audio").train()
    found = core.losses(core({"audio": torch.randn(3, 9, 5)}).parts, torch.tensor([0, 1, 1]))
    assert found["likelihood"] == found["entropy"] == 0
    assert found["contrast"] > 0
