"""Modalities that answer by themselves: the score, the loss, and who gets a gradient."""

import pytest
import torch
from test_derl_model import make_batch, make_model

from derl.model.unimodal import average

ABSENT = {"dropped_modality": "absent"}


def test_without_the_weight_there_are_no_heads():
    assert make_model().unimodal is None
    assert not any("unimodal" in name for name in make_model().state_dict())


def test_the_average_is_that_of_a_loop_over_samples():
    parts = {"a": torch.randn(5, 3, dtype=torch.float64), "b": torch.randn(5, 3, dtype=torch.float64)}
    masks = {"a": torch.rand(5, 4) > 0.5, "b": torch.rand(5, 2) > 0.5}
    masks["a"][0], masks["b"][0] = False, False
    masks["a"][1], masks["b"][1] = True, False
    parts["b"][1] = torch.nan  # what is absent is never read
    found = average(parts, masks)
    for row in range(5):
        there = [parts[name][row] for name in parts if masks[name][row].any()]
        expected = torch.stack(there).mean(0) if there else torch.zeros(3, dtype=torch.float64)
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("problem", [{}, {"problem_type": "single_label_classification", "num_labels": 4}])
def test_score_and_loss_are_those_of_a_loop_over_modalities(problem):
    model = make_model(unimodal_weight=0.7, **ABSENT, **problem).eval()
    inputs, masks, keep, labels = make_batch()
    labels = labels if not problem else torch.arange(6) % 4
    keep["audio"][3] = False  # dropped whole: absent
    seen, shown = model.corrupt(inputs, keep), model.present(masks, keep)
    fused = model.fusion(model.embed(seen, shown), shown)
    outputs = {name: model.unimodal.heads[name](part) for name, part in fused.unimodal.items()}
    own = torch.stack(
        [torch.stack([outputs[name][row] for name in outputs if shown[name][row].any()]).mean(0) for row in range(6)]
    )
    expected = model.problem.predict(model.head(fused.features.mean(1)) + own)
    torch.testing.assert_close(model(inputs, masks, keep).prediction, expected)

    model.train()
    output = model(inputs, masks, keep, labels)
    errors = [
        model.problem.errors(model.problem.predict(outputs[name][row][None]), labels[row][None])
        for name in outputs
        for row in range(6)
        if shown[name][row].any()
    ]
    torch.testing.assert_close(output.unimodal_loss, torch.cat(errors).mean(), atol=1e-5, rtol=1e-5)
    others = output.task_loss + output.orthogonality_loss + output.reconstruction_loss
    torch.testing.assert_close(output.loss, others + 0.7 * output.unimodal_loss)


def test_in_evaluation_the_loss_is_that_of_the_task():
    inputs, masks, keep, labels = make_batch()
    output = make_model(unimodal_weight=1.0).eval()(inputs, masks, keep, labels)
    assert output.unimodal_loss is None
    torch.testing.assert_close(output.loss, output.task_loss)


def test_a_modality_that_no_sample_has_gets_no_gradient_from_its_own_answer():
    model = make_model(unimodal_weight=1.0, **ABSENT).train()
    inputs, masks, keep, labels = make_batch()
    keep["audio"][:] = False
    model(inputs, masks, keep, labels).unimodal_loss.backward()
    assert not model.unimodal.heads["audio"].weight.grad.any()
    assert model.unimodal.heads["text"].weight.grad.any()


def test_the_complete_input_is_scored_with_its_own_answers():
    model = make_model(unimodal_weight=1.0, complete_weight=1.0, consistency_weight=1.0, **ABSENT).train()
    inputs, masks, keep, labels = make_batch()
    masks["audio"][3], keep["audio"][3] = False, False  # really missing, from one sample
    output = model(inputs, masks, keep, labels)
    complete = model.eval()(inputs, masks).prediction
    expected = (output.prediction - complete)[2:].square().sum() / 6
    torch.testing.assert_close(output.consistency_loss, expected, atol=1e-4, rtol=1e-4)
