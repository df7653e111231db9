"""The networks answer whatever is missing, and learn from nothing that is."""

import numpy as np
import pytest
import torch
from invented_stays import arrays
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from icu.front import describe
from icu.missing import CONDITIONS, hide
from icu.models import NETWORKS
from icu.ranks import Ranks
from icu.scores import BINS, score
from icu.stays import Stays
from icu.tables import TABLES
from icu.training import train_network
from icu.variables import MODALITIES

RISK = 0.3


@pytest.fixture
def stays():
    found = arrays()
    return Stays(*(torch.from_numpy(found[name]).float() for name in ("values", "static", "died")), ())


@pytest.fixture
def ranks(stays):
    return Ranks(stays)(stays)


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param](RISK)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_network_answers_with_any_subset(network, ranks, condition):
    logits = network.eval()(describe(hide(ranks, condition)))
    assert logits.shape == (60,)
    assert logits.isfinite().all()


def test_a_network_answers_and_learns_when_nothing_is_there(network, ranks):
    nothing = ranks._replace(
        values=torch.full_like(ranks.values, torch.nan), static=torch.full_like(ranks.static, torch.nan)
    )
    network.loss(describe(nothing), nothing.died).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
    assert network.eval()(describe(nothing)).unique().numel() == 1


def test_a_stay_does_not_depend_on_the_others_in_its_batch(network, ranks):
    network.eval()
    described = describe(ranks)
    alone = network(described.take(torch.arange(1)))
    torch.testing.assert_close(network(described)[:1], alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns_and_no_gradient_is_nan(network, ranks):
    network.loss(describe(ranks), ranks.died).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", MODALITIES)
def test_every_modality_matters(network, ranks, name):
    network.eval()
    assert not torch.equal(network(describe(ranks)), network(describe(hide(ranks, f"no {name}"))))


def test_what_a_masked_frame_holds_changes_nothing(network, ranks):
    network.eval()
    frames = network.front(describe(hide(ranks, "no support")))
    spoiled = {name: part.masked_fill(~frames.masks[name][..., None], 1e30) for name, part in frames.inputs.items()}
    assert torch.equal(network.answer(frames._replace(inputs=spoiled)).evidence, network.answer(frames).evidence)


def test_late_fusion_adds_the_evidence_of_what_is_present_to_the_prior(ranks):
    network = NETWORKS["late"](RISK).eval()
    only = describe(hide(ranks, "only vitals"))
    answer = network.answer(network.front(only))
    torch.testing.assert_close(answer.evidence, answer.unimodal["vitals"])
    torch.testing.assert_close(network(only), torch.tensor(RISK).logit() + answer.unimodal["vitals"])


@pytest.mark.parametrize("fit", [*NETWORKS, *TABLES])
def test_one_seed_gives_one_model(stays, fit):
    def predict():
        if fit in NETWORKS:
            return train_network(NETWORKS[fit], stays, learning_rate=1e-2, epochs=1, seed=3)(stays)
        return TABLES[fit](stays, seed=3)(stays)

    first = predict()
    np.testing.assert_array_equal(first, predict())
    assert ((first > 0) & (first < 1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_what_the_heart_rate_shows(stays, name):
    predict = train_network(NETWORKS[name], stays, learning_rate=3e-3, epochs=60, seed=0)
    assert roc_auc_score(stays.died, predict(stays)) > 0.9


def test_scores_are_those_of_other_libraries():
    generator = np.random.default_rng(0)
    died = (generator.random(500) < 0.3).astype(float)
    probability = np.clip(0.3 * died + 0.7 * generator.random(500), 0, 1).astype(np.float32)
    found = score(died, probability)
    assert found["auroc"] == pytest.approx(100 * roc_auc_score(died, probability), abs=1e-3)
    assert found["auprc"] == pytest.approx(100 * average_precision_score(died, probability), abs=1e-3)
    assert found["brier"] == pytest.approx(100 * np.mean((probability - died) ** 2), abs=1e-3)
    torch_died = torch.from_numpy(died).long()
    # torchmetrics' confidence of a binary prediction is the probability itself, its accuracy the label
    error = binary_calibration_error(torch.from_numpy(probability), torch_died, n_bins=BINS)
    assert found["ece"] == pytest.approx(100 * error.item(), abs=1e-2)
