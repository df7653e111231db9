"""One pass over many conditions against one pass a condition."""

import numpy as np
import pytest
import torch

from derl.evaluate.conditions import Condition, intra_modal
from derl.evaluate.diagnostics import diagnose, entropy, is_collapsed, load
from derl.evaluate.scores import Predicted, predict
from derl.evaluate.sentiment import SENTIMENT
from derl.train.options import parse
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, make_trainer

NONE = torch.zeros(61, dtype=torch.bool)


@pytest.fixture(scope="module", params=["derl", "plain"])
def judged(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    options = parse(["--preset", "smoke", "--model", request.param])
    setup = Setup.build(options, RunFolder(folder))
    valid = [setup.dataset("valid", Condition("r=0.5", rate=0.5))]
    trainer = make_trainer(
        SentimentTrainer, setup.model, setup.collator, setup.dataset("train"), valid, options, folder
    )
    return setup, trainer


def test_the_order_of_samples_does_not_show(judged):
    setup, trainer = judged
    conditions = [*intra_modal()[:9:4], Condition("text", available=("text",))]
    datasets = {condition.name: setup.dataset("test", condition) for condition in conditions}
    together = predict(trainer, datasets)
    assert list(together) == [condition.name for condition in conditions]
    model = setup.model.eval()
    for name, dataset in datasets.items():
        batch = setup.collator([dataset[index] for index in range(len(dataset))])
        batch.pop("labels")
        with torch.inference_mode():
            alone = model(**batch)
        torch.testing.assert_close(together[name].scores, alone.prediction, atol=1e-5, rtol=1e-4)
        if alone.fusion_weights is None:
            assert together[name].fusion_weights is None
            assert together[name].expert_weights == {}
        else:
            torch.testing.assert_close(together[name].fusion_weights, alone.fusion_weights, atol=1e-5, rtol=1e-4)
            for modality, weights in alone.expert_weights.items():
                torch.testing.assert_close(together[name].expert_weights[modality], weights, atol=1e-5, rtol=1e-4)


def test_a_text_that_conditions_share_is_encoded_once(judged):
    setup, trainer = judged
    available = (("text",), ("text", "audio"), ("text", "vision"), ("text", "audio", "vision"))
    datasets = {str(names): setup.dataset("test", Condition(str(names), available=names)) for names in available}
    rows = []
    encoder = trainer.model.text_encoder
    handle = encoder.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    predict(trainer, datasets)
    handle.remove()
    size = len(setup.splits["test"])
    batches = -(-size * len(datasets) // trainer.args.per_device_eval_batch_size)
    assert batches > 1
    assert size <= sum(rows) < size + batches  # one sample at most lies in two batches


def test_a_collapse_is_named_and_variety_is_not():
    labels = torch.linspace(-3, 3, 61)
    constant = diagnose(Predicted(torch.full((61,), 0.4), {}, None, NONE), labels, SENTIMENT)
    assert constant == pytest.approx({"spread": 0.0, "commonest_class": 0.0, "commonest_share": 1.0}, abs=1e-6)
    assert is_collapsed(constant)
    nearly = torch.where(torch.arange(61) == 60, 3.0, -1.2)
    assert diagnose(Predicted(nearly, {}, None, NONE), labels, SENTIMENT)["commonest_class"] == -1
    assert is_collapsed(diagnose(Predicted(nearly, {}, None, NONE), labels, SENTIMENT))
    perfect = diagnose(Predicted(labels, {}, None, NONE), labels, SENTIMENT)
    assert perfect["spread"] == pytest.approx(1)
    assert not is_collapsed(perfect)


def test_entropy_and_load_are_numpys():
    weights = torch.rand(50, 4, 6).softmax(-1)
    flat = weights.double().numpy().reshape(-1, 6)
    assert entropy(weights) == pytest.approx(-(flat * np.log(flat)).sum(1).mean() / np.log(6), abs=1e-6)
    np.testing.assert_allclose(load(weights), flat.mean(0), atol=1e-6)
    assert entropy(torch.ones(3, 1)) == 1
    assert load(torch.ones(3, 1)) == [1]
