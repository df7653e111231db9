"""A data file with holes: training, evaluation and predict treat the same sample alike."""

import json
import pickle
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

import derl_mosi
from derl import Predictor
from derl.data.synthetic import make_synthetic
from derl.evaluate.conditions import Condition
from derl.evaluate.scores import predict
from derl.train.fit import open_trainer
from derl.train.options import parse
from derl.train.run import RunFolder
from derl.train.setup import Setup

SIZES = {"train": 24, "valid": 12, "test": 12}
LENGTHS = {"text": 12, "audio": 8, "vision": 6}
AUDIO, FRAME, VALUE, TEXT, ALL = range(5)  # rows of every split with a hole of this kind
NAN = np.nan


def layout(split, *, holes):
    """A split as MMSA has it; row 4 lacks every modality."""
    content = {
        "raw_text": np.array(split.text, dtype=object),
        "id": split.ids,
        "regression_labels": split.labels.numpy(),
    }
    for name in ("audio", "vision"):
        content[name] = split.features[name].numpy().copy()
        content[f"{name}_lengths"] = split.lengths[name].numpy().copy()
    if holes:
        for row in (AUDIO, ALL):
            content["audio"][row] = NAN
        content["vision"][FRAME, 0] = NAN
        content["vision"][VALUE, 0, ::2] = NAN
        content["raw_text"][TEXT], content["raw_text"][ALL] = None, ""
        content["vision_lengths"][ALL] = 0
    return content


@pytest.fixture(scope="module")
def made():
    return make_synthetic(3, SIZES, LENGTHS)


@pytest.fixture(scope="module")
def encoder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    made.tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(made.tokenizer), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    return folder


def run(made, encoder, folder, *more, holes=True):
    """Run the command on synthetic data; return its exit code."""
    path = folder / "data.pkl"
    path.write_bytes(pickle.dumps({name: layout(split, holes=holes) for name, split in made.splits.items()}))
    options = ["--preset", "smoke", "--epochs", "2", "--batch_size", "12", "--learning_rate", "0.02"]
    options += ["--precision", "fp32"]  # predict does not run in bf16
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["--data", str(path), "--text_encoder", str(encoder), *options, *more]
        patch.setattr(sys, "argv", ["derl_mosi.py", *arguments, "--output_dir", str(folder / "run")])
        return derl_mosi.main()


def judged(folder):
    opened = RunFolder(folder)
    setup = Setup.build(opened.restore(parse(["--evaluate", str(folder)])), opened)
    return setup, open_trainer(setup, opened), Predictor.from_pretrained(folder / "model")


def raw(split, row, *, names=("text", "audio", "vision")):
    """A sample as a user has it: None for what is not there, NaN for what was not observed."""
    given = {"text": split["raw_text"][row] or None}
    given |= {name: split[name][row, : split[f"{name}_lengths"][row]] for name in ("audio", "vision")}
    return {name: given[name] if name in names else None for name in given}


CASES = {
    "derl": [],
    "plain": ["--model", "plain"],
    "robust": ["--recipe", "robust", "--epochs", "2"],
    "mask": ["--partly_missing", "mask"],
    "whole": ["--dropped_modality", "absent"],
    "unimodal": ["--unimodal_weight", "1"],
}
WHOLE = ("whole", "unimodal")  # cases whose data has no holes


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:. of . samples have no input at all", "ignore:text holds no word")
def test_evaluation_and_predict_answer_alike(made, encoder, tmp_path, capsys, case):
    holes = case not in WHOLE
    assert run(made, encoder, tmp_path, *CASES[case], holes=holes) == 0
    assert ("dropped_modality is absent, not erased as in the paper" in capsys.readouterr().out) is holes
    setup, trainer, predictor = judged(tmp_path / "run")
    assert predictor.model.config.dropped_modality == "absent"
    test = layout(made.splits["test"], holes=holes)
    for names in (("text", "audio", "vision"), ("text",), ("audio",), ("audio", "vision")):
        condition = Condition("", available=names)
        expected = predict(trainer, {"": setup.dataset("test", condition)})[""]
        given = [raw(test, row, names=names) for row in range(SIZES["test"])]
        answers = [predictor.predict(**{name: [sample[name]] for name in sample})[0] for sample in given]
        scores = torch.tensor([answer.score for answer in answers])
        torch.testing.assert_close(scores, expected.scores, atol=1e-5, rtol=1e-4)
        empty = [
            all(
                part is None or not np.isfinite(part).any() if name != "text" else part is None
                for name, part in sample.items()
            )
            for sample in given
        ]
        assert expected.nothing_left.tolist() == empty
        mean = made.splits["train"].labels.mean().item()
        assert expected.scores[expected.nothing_left].tolist() == pytest.approx([mean] * sum(empty))
        assert len(set(scores.tolist())) > SIZES["test"] - sum(empty) - 2


def test_the_report_says_what_was_missing_before_and_who_answers_when_nothing_is_left(made, encoder, tmp_path, capsys):
    assert run(made, encoder, tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "train: audio is absent in 2 of 24 samples" in said
    assert "valid: text is absent in 2 of 12 samples" in said
    assert "not erased as in the paper, because text is missing from 2 samples of train, audio is missing" in said
    for text in (said, " ".join((tmp_path / "run/report.md").read_text().split())):
        assert (
            "Missing from the test data before anything was dropped: text is absent in 2 of 12 samples; audio" in text
        )
        assert "vision is absent in 1 of 12 samples; in the others, 1 of" in text
        assert "Rates count what is there." in text
        assert "Test samples of which nothing is left, answered by the training mean: r=0.0: 1," in text
        assert ", text: 2, audio: 2, vision: 1," in text
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["options"]["dropped_modality"] == results["dropped_modality"] == "absent"
    assert results["missing_before"]["audio"]["samples"] == 2
    assert results["nothing_left"]["r=0.0"] == 1


def test_data_without_holes_is_erased_as_in_the_paper(made, encoder, tmp_path, capsys):
    assert run(made, encoder, tmp_path, holes=False) == 0
    said = capsys.readouterr().out
    assert "dropped_modality is" not in said
    assert "Missing from the test data" not in said
    assert Predictor.from_pretrained(tmp_path / "run/model").model.config.dropped_modality == "erased"


def test_holes_cannot_be_erased(made, encoder, tmp_path, capsys):
    assert run(made, encoder, tmp_path, "--dropped_modality", "erased") == 2
    error = capsys.readouterr().err
    assert "for --dropped_modality erased, found that text is missing from 2 samples of train" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_missing_values_are_imputed_by_the_mean_of_the_values_observed_in_training(made, encoder, tmp_path):
    assert run(made, encoder, tmp_path) == 0
    _, _, predictor = judged(tmp_path / "run")
    train = layout(made.splits["train"], holes=True)
    frames = np.concatenate([raw(train, row)["vision"] for row in range(SIZES["train"])])
    mean = np.nanmean(frames.astype(np.float64), axis=0)
    sample = raw(layout(made.splits["test"], holes=True), VALUE)
    filled = np.where(np.isnan(sample["vision"]), mean, sample["vision"])
    assert np.isnan(sample["vision"]).any()
    expected = predictor.predict(**sample | {"vision": filled}).score
    assert predictor.predict(**sample).score == pytest.approx(expected, abs=1e-5)
    assert predictor.predict(**sample | {"vision": np.nan_to_num(sample["vision"], nan=9.0)}).score != expected
