"""Every model of the actions example: any subset, nothing read that was dropped, one answer per clip."""

import pytest
import torch

from actions.clips import MODALITIES
from actions.conditions import CONDITIONS, SUBSETS, keep_masks
from actions.models import MODELS, late
from actions.protocol import MODELS as ALL
from actions.recordings import Inputs, Scale
from actions.svm import StatisticsSVM
from actions.training import draw_pair, evaluate, train

ROWS = torch.arange(6)


@pytest.fixture
def scale(recordings):
    return Scale.fit(recordings)


@pytest.fixture(params=ALL)
def model(request, recordings, scale):
    model = ALL[request.param]()
    if isinstance(model, StatisticsSVM):
        model.fit(see(recordings, scale, "complete"), recordings.labels)
    return model.eval()


def see(recordings, scale, condition):
    keep = keep_masks(recordings.everything(ROWS), condition, torch.Generator().manual_seed(0))
    return scale.apply(recordings.see(ROWS, keep))


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_any_subset_gets_an_answer(model, recordings, scale, subset):
    logits = model(see(recordings, scale, "+".join(subset)))
    assert logits.shape == (6, 27)
    assert logits.isfinite().all()


def test_an_answer_does_not_depend_on_the_other_clips_of_a_batch(model, recordings, scale):
    inputs = see(recordings, scale, "bursts 0.7")
    together = model(inputs)
    for row in range(6):
        alone = Inputs(*({name: part[row : row + 1] for name, part in half.items()} for half in inputs))
        torch.testing.assert_close(model(alone), together[row : row + 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in MODALITIES])
def test_what_an_absent_modality_holds_changes_nothing(name, recordings, scale, modality):
    model = MODELS[name]().eval()
    inputs = see(recordings, scale, "+".join(other for other in MODALITIES if other != modality))
    changed = inputs.values | {modality: torch.randn_like(inputs.values[modality])}
    assert torch.equal(model(Inputs(changed, inputs.observed)), model(inputs))


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name, recordings, scale):
    model = MODELS[name]().train()
    inputs = draw_pair(recordings, scale, ROWS, torch.Generator().manual_seed(0))
    model.loss(inputs, recordings.labels.repeat(2)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["experts", "late + MLP"])
def test_the_fused_answer_sends_no_gradient_to_the_encoder(name, recordings, scale):
    model = MODELS[name]().train()
    fused, extra = model.fused(model.encode(see(recordings, scale, "complete")))
    (fused.sum() + extra).backward()
    assert all(parameter.grad is None for parameter in model.encode.parameters())


def test_the_late_answer_is_the_mean_over_what_is_present(recordings, scale):
    model = MODELS["late fusion"]().eval()
    encoded = model.encode(see(recordings, scale, "gyroscope+skeleton"))
    answers = model.unimodal(encoded)
    torch.testing.assert_close(late(answers, encoded), (answers[:, 1] + answers[:, 2]) / 2)


def test_a_pair_is_the_same_clips_incomplete_and_complete(recordings, scale):
    inputs = draw_pair(recordings, scale, ROWS, torch.Generator().manual_seed(3))
    for name in MODALITIES:
        assert inputs.observed[name][6:].all()
    same = [all(inputs.observed[name][row].all() for name in MODALITIES) for row in range(6)]
    assert any(same)
    assert not all(same)
    for row in (row for row in range(6) if same[row]):
        for name in MODALITIES:
            assert torch.equal(inputs.values[name][row], inputs.values[name][row + 6])


def test_one_seed_trains_one_model(recordings, scale):
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        model = MODELS["experts"]()
        train(model, recordings, scale, learning_rate=1e-3, epochs=1, seed=0)
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(*weights)


def test_accuracy_is_the_share_of_clips_whose_largest_logit_is_right(recordings, scale):
    class Fixed(torch.nn.Module):
        def forward(self, inputs):
            return torch.eye(27)[[0, 1, 2, 0, 0, 0]]

    right = (recordings.labels == torch.tensor([0, 1, 2, 0, 0, 0])).double().mean().item()
    found = evaluate(Fixed(), recordings, scale, CONDITIONS, None)
    assert found == pytest.approx(dict.fromkeys(CONDITIONS, 100 * right))
