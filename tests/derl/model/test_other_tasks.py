"""Models of classes, and of numbers far from [-3, 3]."""

import pytest
import torch
import torch.nn.functional as F

from derl import MODELS, DerlConfig, DerlProcessor, Predictor

CLASSES = {0: "calm", 1: "glad", 2: "sad", 3: "angry"}
LABELS = torch.tensor([0.0, 3.0, 1.0, 1.0, 2.0])


def make(model_class, **settings):
    return model_class(DerlConfig.smoke(modalities=["audio", "vision"], **settings))


def batch():
    inputs = {"audio": torch.randn(5, 7, 5), "vision": torch.randn(5, 6, 20)}
    keep = {name: torch.rand(part.shape[:2]) > 0.5 for name, part in inputs.items()}
    return inputs, {name: torch.ones_like(mask) for name, mask in keep.items()}, keep


@pytest.mark.parametrize("model_class", MODELS.values())
def test_classes_have_a_logit_each_and_the_cross_entropy(model_class):
    model = make(model_class, problem_type="single_label_classification", id2label=CLASSES).eval()
    output = model(*batch(), labels=LABELS)
    assert output.prediction.shape == (5, 4)
    assert output.loss.item() == pytest.approx(F.cross_entropy(output.prediction, LABELS.long()).item(), rel=1e-6)


@pytest.mark.parametrize("model_class", MODELS.values())
def test_every_loss_of_classes_reaches_the_head(model_class):
    model = make(
        model_class,
        problem_type="single_label_classification",
        id2label=CLASSES,
        consistency_weight=1.0,
        complete_weight=1.0,
    )
    output = model(*batch(), labels=LABELS)
    output.loss.backward()
    assert 0 < output.consistency_loss < 2  # of probabilities
    assert model.head.weight.grad.isfinite().all()
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("model_class", MODELS.values())
def test_numbers_are_standardized_for_the_head_alone(model_class):
    model, labels = make(model_class, sentiment=False).eval(), 100 * LABELS + 1000
    parts = batch()
    plain = model(*parts).prediction
    model.fit_labels(labels)
    scale = labels.std(correction=0)
    output = model(*parts, labels=labels)
    torch.testing.assert_close(output.prediction, plain * scale + labels.mean())
    torch.testing.assert_close(output.loss, (plain - (labels - labels.mean()) / scale).square().mean())


def test_equal_labels_do_not_divide_by_zero():
    model = make(MODELS["derl"], sentiment=False).eval()
    model.fit_labels(torch.full((4,), 7.0))
    assert model(*batch(), labels=torch.full((5,), 7.0)).loss.isfinite()


def test_a_saved_model_answers_with_its_own_classes(tmp_path):
    model = make(MODELS["derl"], problem_type="single_label_classification", id2label=CLASSES).eval()
    model.save_pretrained(tmp_path)
    predictor = Predictor.from_pretrained(tmp_path)
    frames = torch.randn(9, 5)
    answer = predictor.predict(audio=frames)
    expected = Predictor(model, DerlProcessor(model.config, None)).predict(audio=frames)
    assert answer == expected
    assert list(answer.probabilities) == list(CLASSES.values())
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.probabilities[answer.name] == answer.score == max(answer.probabilities.values())
    assert answer.sentiment is None


def test_a_number_has_no_class(tmp_path):
    model = make(MODELS["derl"], sentiment=False).eval()
    model.fit_labels(torch.tensor([10.0, 90.0]))
    model.save_pretrained(tmp_path)
    answer = Predictor.from_pretrained(tmp_path).predict(audio=torch.randn(9, 5))
    assert (answer.name, answer.sentiment, answer.probabilities) == (None, None, None)
    assert 0 < answer.score < 100


@pytest.mark.parametrize("settings", [{"problem_type": "multi_label_classification"}, {"sentiment": "yes"}])
def test_what_no_loss_is_written_for_is_refused(settings):
    with pytest.raises(ValueError, match="DerlConfig expected"):
        DerlConfig(**settings)
