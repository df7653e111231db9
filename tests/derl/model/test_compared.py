"""The systems that DERL is compared with, as models of the sentiment example."""

import sys
from collections import Counter
from unittest.mock import patch

import pytest
import torch
from steps import assert_absent_content_changes_nothing, step
from tiny import tiny_text
from torch import nn

import derl_export
import derl_mosi
import derl_predict
from baselines.crossmodal import CrossmodalLayer
from baselines.self_mm import Memory
from derl import MODELS, DerlConfig
from derl.model.compared import ComparedModel
from derl.model.saved import read_model
from derl.model.training import Phase, phase_at
from derl.study.cells import METHODS
from derl.train.options import Options, fill_in, parse
from derl.train.trainer import SentimentTrainer

COMPARED = [name for name, model_class in MODELS.items() if issubclass(model_class, ComparedModel)]
LENGTHS = {"text": 9, "audio": 12, "vision": 10}

every = pytest.mark.parametrize("name", COMPARED)


def make(name, **settings):
    torch.manual_seed(0)
    model_class = MODELS[name]
    config = {"text_config": tiny_text(layers=1), "core": dict(model_class.smoke), "max_lengths": LENGTHS} | settings
    if model_class.remembers:
        config["core"] |= {"num_samples": 8}
    model = model_class(DerlConfig.smoke(**config))
    for module in model.modules():  # one input gives one output
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, CrossmodalLayer):
            module.attention_dropout = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    for parameter in model.core.parameters():  # equal seeds and zeros hide gradients
        parameter.data += 0.1 * torch.randn_like(parameter)
    for module in model.core.modules():  # as if training samples had been seen
        if isinstance(module, Memory):
            module.features.normal_()
            module.labels.normal_()
            module.visits.fill_(2)
    return model


def batch(rows_complete=2):
    torch.manual_seed(1)
    inputs = {
        "text": torch.randint(103, 130, (6, 7)),
        "audio": torch.randn(6, 12, 5),
        "vision": torch.randn(6, 8, 20),
    }
    masks = {name: torch.rand(part.shape[:2]) < 0.8 for name, part in inputs.items()}
    for row, name in enumerate(masks):  # each modality is absent from one sample, and the last has none
        masks[name][[row, 5]] = False
    keep = {name: mask & (torch.rand(mask.shape) < 0.5) for name, mask in masks.items()}
    for name, mask in masks.items():
        keep[name][:rows_complete] = mask[:rows_complete]
    return inputs, masks, keep, torch.tensor([1.0, 2.0, 0.0, 1.0, 2.0, 0.0])


@every
def test_the_loss_is_the_sum_of_the_losses_and_reaches_every_parameter(name):
    model = make(name, consistency_weight=0.5, complete_weight=0.25).train()
    *parts, labels = batch()
    with patch.object(model, "losses", wraps=model.losses) as losses:
        output = model(*parts, labels)
    ((found, given),) = (call.args for call in losses.call_args_list)
    assert found is output
    assert given.labels is labels
    own = sum(output.losses.values())
    complete = model.task_loss(given.complete_prediction, labels[given.rows]) * len(given.rows) / 6
    rest = output.task_loss + 0.5 * output.consistency_loss + 0.25 * complete
    torch.testing.assert_close(output.loss, rest + own)
    output.loss.backward()
    assert [key for key, part in model.named_parameters() if part.grad is None or not part.grad.any()] == []


@every
def test_in_evaluation_there_is_the_task_loss_alone(name):
    output = make(name).eval()(*batch())
    assert output.losses is None
    assert output.loss is output.task_loss


@every
@pytest.mark.parametrize("dropping", [True, False])
def test_absent_content_reaches_no_answer_loss_or_gradient(name, dropping):
    model = make(name)
    inputs, masks, keep, labels = batch()
    keep = keep if dropping else None
    assert_absent_content_changes_nothing(model, inputs, masks, keep, labels)


@every
def test_dropped_content_never_reaches_the_prediction(name):
    model = make(name).eval()
    inputs, masks, keep, _ = batch()
    expected = model(inputs, masks, keep).prediction
    for key in ("audio", "vision"):
        inputs[key] = torch.where(keep[key][..., None], inputs[key], 7.0)
    words = 129 - torch.randint(0, 20, inputs["text"].shape)
    inputs["text"] = torch.where(keep["text"], inputs["text"], words)
    assert torch.equal(model(inputs, masks, keep).prediction, expected)


@every
@pytest.mark.parametrize("left_out", [("text",), ("audio", "vision")])
def test_left_out_is_none_is_masked(name, left_out):
    model = make(name).train()
    inputs, masks, keep, labels = batch()
    for key in left_out:
        masks[key][:] = keep[key][:] = False
    expected = step(model, inputs, masks, keep, labels)
    rest = [{key: part for key, part in parts.items() if key not in left_out} for parts in (inputs, masks, keep)]
    for given in (rest[0], inputs | dict.fromkeys(left_out)):
        torch.testing.assert_close(step(model, given, *rest[1:], labels), expected, atol=1e-5, rtol=1e-4)


@every
def test_a_batch_that_lost_nothing_has_itself_as_complete_input(name):
    model = make(name, consistency_weight=1.0, complete_weight=1.0).train()
    inputs, masks, keep, labels = batch(rows_complete=6)
    torch.testing.assert_close(model(inputs, masks, keep, labels).loss, model(inputs, masks, None, labels).loss)


@every
@pytest.mark.parametrize("modalities", [("text",), ("vision", "audio")])
def test_saved_models_load_with_any_modalities(name, modalities, tmp_path):
    model = make(name, modalities=modalities).eval()
    parts = [{key: part[key] for key in modalities} for part in batch()[:3]]
    model.save_pretrained(tmp_path)
    loaded = read_model(tmp_path)
    assert type(loaded) is MODELS[name]
    assert torch.equal(loaded.eval()(*parts).prediction, model(*parts).prediction)


@every
def test_classes_have_a_logit_each(name):
    model = make(name, problem_type="single_label_classification", id2label={0: "calm", 1: "glad", 2: "sad"}).train()
    output = model(*batch())
    output.loss.backward()
    assert output.prediction.shape == (6, 3)
    assert model.head.weight.grad.abs().sum() > 0


def test_phases_take_turns():
    assert phase_at([], 3) is None
    assert [phase_at([Phase("a", 2), Phase("b")], epoch) for epoch in range(4)] == ["a", "a", "b", "b"]
    assert [phase_at([Phase("a", 1), Phase("b", 2)], epoch) for epoch in range(5)] == ["a", "b", "b", "a", "b"]


def test_tfr_net_first_learns_scores_alone():
    model = make("tfr_net").train()
    model.phase = "score"
    early = model(*batch())
    model.phase = "both"
    late = model(*batch())
    assert not any(early.losses.values())
    assert all(late.losses.values())
    assert early.loss == early.task_loss == late.task_loss < late.loss


@pytest.mark.parametrize("task_loss", ["mse", "mae"])
def test_emoes_experts_are_compared_by_squared_errors_whatever_their_loss(task_loss):
    model = make("emoe", task_loss=task_loss, sentiment=False).train()
    model.fit_labels(torch.tensor([0.0, 4.0]))  # standard deviation 2
    *parts, labels = batch()
    with patch.object(model.core, "losses", wraps=model.core.losses) as losses:
        model(*parts, labels)
    output, errors, distances = losses.call_args.args
    for name, guess in output.parts.guesses.items():
        scores = [2 * value + 2 for value in guess[:, 0].tolist()]
        gaps = [(score - label) / 2 for score, label in zip(scores, labels.tolist(), strict=True)]
        assert distances[name].tolist() == pytest.approx([gap**2 for gap in gaps], abs=1e-5)
        expected = [abs(gap) if task_loss == "mae" else gap**2 for gap in gaps]
        assert errors[name].tolist() == pytest.approx(expected, abs=1e-5)


def test_lnln_learns_the_share_of_words_that_is_left():
    model = make("lnln").train()
    inputs, masks, keep, labels = batch()
    with patch.object(model.core, "losses", wraps=model.core.losses) as losses:
        model(inputs, masks, keep, labels)
    (_, _, kept, present) = losses.call_args.args
    counts = [(sum(left), sum(real)) for left, real in zip(keep["text"].tolist(), masks["text"].tolist(), strict=True)]
    assert kept.tolist() == pytest.approx([left / max(real, 1) for left, real in counts])
    assert present["text"].tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("settings", "labels", "groups"),
    [
        ({}, [1.5, 0.0, -0.2, 3.0, -1.0, 0.1], [1, -1, 0, 1, 0, 1]),
        ({"sentiment": False}, [7.0, 5.0, 4.0, 3.0, 6.0, 5.0], [1, -1, 0, 0, 1, -1]),
        (
            {"problem_type": "single_label_classification", "id2label": {0: "calm", 1: "glad", 2: "sad"}},
            [2.0, 0.0, 1.0, 0.0, 2.0, 1.0],
            [2, 0, 1, 0, 2, 1],
        ),
    ],
    ids=["polarity", "side of the mean", "class"],
)
def test_mmim_groups_samples_by_what_is_predicted(settings, labels, groups):
    model = make("mmim", **settings).train()
    model.fit_labels(torch.tensor(labels))
    model(*batch()[:3], torch.tensor(labels))
    memory = model.core.entropies["audio"]
    assert memory.num_components == (3 if "id2label" in settings else 2)
    expected = [-1 if row in (1, 5) else group for row, group in enumerate(groups)]  # without audio
    assert memory.memory_groups[:6].tolist() == expected


def test_every_model_brings_its_papers_recipe():
    assert fill_in(Options(data="x.csv")).task_loss == "mse"
    found = fill_in(Options(model="tfr_net", data="x.csv", learning_rate=0.5))
    assert (found.task_loss, found.batch_size, found.learning_rate, found.text_learning_rate) == ("mae", 24, 0.5, 1e-5)
    assert fill_in(Options(model="tfr_net", recipe="robust")).task_loss == "mse"
    assert fill_in(Options(model="lnln")).corrupt_by == "modality"
    own = Counter(key for name in COMPARED for key in MODELS[name].recipe)
    assert own.keys() <= vars(Options()).keys()
    assert all(getattr(Options(), key) is None for key in own)  # None is what a recipe fills in


def test_an_unknown_name_is_answered_with_the_list(capsys):
    with pytest.raises(SystemExit):
        parse(["--model", "lnlm"])
    message = capsys.readouterr().err
    assert all(f"'{name}'" in message for name in MODELS)


def test_the_papers_tables_train_no_compared_system_unasked():
    labels = [model_class.label for model_class in (MODELS["derl"], MODELS["plain"])]
    assert {label.partition(",")[0] for label in METHODS} == set(labels)


def run(command, *arguments):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [f"{command.__name__}.py", *map(str, arguments)])
        return command.main()


@pytest.mark.slow
@every
def test_it_is_trained_resumed_and_asked_by_the_commands(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(derl_mosi, "write_report", lambda *given: None)  # pictures take longer than all the rest
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    smoke = ("--preset", "smoke", "--epochs", "2", "--batch_size", "48", "--model", name)
    assert run(derl_mosi, *smoke, "--output_dir", whole) == 0

    save, saved = SentimentTrainer._save_checkpoint, []

    def save_once(self, *arguments, **others):
        if saved:
            raise KeyboardInterrupt
        saved.append(save(self, *arguments, **others))

    with patch.object(SentimentTrainer, "_save_checkpoint", save_once):
        assert run(derl_mosi, *smoke, "--output_dir", resumed) == 130
    assert run(derl_mosi, "--resume", resumed) == 0
    weights = [read_model(folder / "model").state_dict() for folder in (whole, resumed)]
    assert all(torch.equal(part, weights[1][key]) for key, part in weights[0].items())
    capsys.readouterr()
    assert run(derl_predict, whole, "--text", "great ship") == 0
    assert capsys.readouterr().out.startswith("score ")


@pytest.mark.slow
@every
def test_it_is_exported_or_the_command_says_that_it_is_not(name, tmp_path, capsys):
    make(name, modalities=("text", "audio")).save_pretrained(tmp_path / "model")
    exports = MODELS[name].exports
    assert run(derl_export, tmp_path / "model", "--to", "torch", tmp_path / "model.pt2") == (0 if exports else 2)
    assert exports or f"found {MODELS[name].label}; ask it with derl_predict.py" in capsys.readouterr().err
