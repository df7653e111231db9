"""Raw input against the evaluation of the same samples."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, BertConfig, BertModel

from derl import DerlConfig, DerlModel, DerlProcessor, PlainModel, Predictor
from derl.data.split import DataError
from derl.evaluate.conditions import Condition
from derl.evaluate.scores import predict
from derl.train.options import parse
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, make_trainer

COMBINATIONS = [("text",), ("audio",), ("vision",), ("text", "audio"), ("audio", "vision")]


@pytest.fixture(scope="module")
def judged(smoke_run, tmp_path_factory):
    """The run's predictor, and what its evaluation needs."""
    folder = RunFolder(smoke_run)
    options = folder.restore(parse(["--evaluate", str(smoke_run)]))
    setup = Setup.build(options, folder)
    valid = [setup.dataset("valid", Condition("r=0.5", rate=0.5))]
    trainer = make_trainer(
        SentimentTrainer,
        setup.model,
        setup.collator,
        setup.dataset("train"),
        valid,
        options,
        tmp_path_factory.mktemp("t"),
    )
    predictor = Predictor.from_pretrained(smoke_run / "model")
    predictor.batch_size = 7  # several batches
    return predictor, setup, trainer


def raw(split):
    """Every row of a split as a user has it."""
    frames = {
        name: [part[row, : int(split.lengths[name][row])].numpy() for row in range(len(split))]
        for name, part in split.features.items()
    }
    return {"text": split.text, **frames}


def scores(answers):
    return torch.tensor([answer.score for answer in answers])


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_complete_input_scores_as_in_evaluation(judged):
    predictor, setup, trainer = judged
    expected = predict(trainer, {"all": setup.dataset("test", Condition("r=0", rate=0.0))})["all"]
    answers = predictor.predict(**raw(setup.splits["test"]))
    close(scores(answers), expected.scores)
    weights = expected.fusion_weights.mean(1)
    modalities = (weights[:, :3] + weights[:, 3:]).tolist()
    for answer, row in zip(answers, modalities, strict=True):
        assert list(answer.weights) == list(predictor.modalities)
        assert list(answer.weights.values()) == pytest.approx(row, abs=1e-5)
        assert answer.sentiment == round(min(max(answer.score, -3), 3))
    assert len({answer.score for answer in answers}) > 0.8 * len(answers)


@pytest.mark.parametrize("available", COMBINATIONS, ids="+".join)
def test_a_missing_modality_scores_as_one_of_typical_length_lost_whole(judged, available):
    predictor, setup, trainer = judged
    typical, split = setup.model.config.typical_lengths, setup.splits["test"]
    lengths = {
        name: length if name in available else torch.full_like(length, typical[name])
        for name, length in split.lengths.items()
    }
    text = split.text if "text" in available else [" ".join(["ship"] * (typical["text"] - 2))] * len(split)
    dataset = replace(setup, splits={"test": replace(split, text=text, lengths=lengths)}).dataset(
        "test", Condition("", available=available)
    )
    answers = predictor.predict(**{name: part for name, part in raw(split).items() if name in available})
    close(scores(answers), predict(trainer, {"": dataset})[""].scores)
    for answer in answers:
        assert {name for name, weight in answer.weights.items() if weight} == set(available)
        assert sum(answer.weights.values()) == pytest.approx(1)


def test_typical_lengths_are_the_medians_of_training(judged):
    _, setup, _ = judged
    train = setup.splits["train"]
    expected = {name: np.sort(length.numpy())[(len(train) - 1) // 2] for name, length in train.lengths.items()}
    expected["text"] = np.sort([len(line.split()) + 2 for line in train.text])[(len(train) - 1) // 2]
    assert setup.model.config.typical_lengths == expected


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(judged):
    predictor, setup, _ = judged
    rows = {name: part[:9] for name, part in raw(setup.splits["test"]).items()}
    rows["audio"][2] = rows["text"][2] = rows["vision"][5] = None
    together = predictor.predict(**rows)
    alone = [predictor.predict(**{name: part[row] for name, part in rows.items()}) for row in range(9)]
    close(scores(together), scores(alone))
    assert together[2].weights["text"] == together[2].weights["audio"] == together[5].weights["vision"] == 0
    assert together[2].weights["vision"] == 1


def test_any_form_of_the_same_numbers_gives_the_same_answer(judged):
    predictor, _, _ = judged
    frames = np.random.default_rng(0).standard_normal((6, 5)).round(1)
    expected = predictor.predict(text="great ship", audio=frames)
    frozen = frames.astype(np.float32)
    frozen.flags.writeable = False
    for form in (
        frames.tolist(),
        torch.tensor(frames, requires_grad=True),
        frozen,
        [torch.tensor(row) for row in frames],
    ):
        assert predictor.predict(text="great ship", audio=form, vision=None) == expected
    for many in ([frames], frames[None], [frames.tolist()], torch.tensor(frames)[None]):
        assert predictor.predict(text=["great ship"], audio=many) == [expected]
    missing = predictor.predict(text="great ship")
    assert predictor.predict(text="great ship", audio=frames[:0]) == missing
    assert missing != expected


def test_what_is_too_long_is_cut_with_a_warning(judged):
    predictor, _, _ = judged
    limit = predictor.model.config.max_lengths["audio"]
    frames = np.random.default_rng(0).standard_normal((limit + 5, 5))
    with pytest.warns(UserWarning, match=f"audio was cut to its first {limit} frames.*longest had {limit + 5}"):
        answer = predictor.predict(audio=frames)
    assert answer == predictor.predict(audio=frames[:limit])
    words = "ship " * predictor.model.config.max_lengths["text"]
    with pytest.warns(UserWarning, match="text was cut to its first 50 tokens"):
        assert predictor.predict(text=words) == predictor.predict(text="ship " * 48)


@pytest.mark.parametrize("nothing", [None, np.zeros((0, 5)), np.full((3, 5), np.nan), np.full((3, 5), 1e300)])
def test_a_sample_without_any_input_is_answered_by_the_training_mean(judged, nothing):
    predictor, setup, _ = judged
    with pytest.warns(UserWarning, match="1 of 2 samples have no input at all; the mean of the training labels"):
        answer, other = predictor.predict(text=["", "great ship"], audio=[nothing, None])
    assert answer.score == pytest.approx(setup.splits["train"].labels.mean().item())
    assert set(answer.weights.values()) == {0.0}
    assert other == predictor.predict(text="great ship")


def test_text_without_a_known_word_is_said_to_be_so(judged):
    with pytest.warns(UserWarning, match="no word that the model knows in 1 of 2 samples"):
        judged[0].predict(text=["great", "Guten Tag"])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({}, r"expected at least one of \('text', 'audio', 'vision'\), got none"),
        ({"text": None}, "expected at least one of"),
        ({"smell": 1}, "expected modalities out of .*, got 'smell'"),
        ({"text": 3}, "expected text to be a string or a list of strings, got int"),
        ({"text": ["great", 3]}, "expected text to be strings, got int in sample 1"),
        ({"audio": np.zeros((3, 4))}, r"expected audio of shape \(frames, 5\), got \(3, 4\)"),
        ({"audio": np.zeros(5)}, "got 1 axes"),
        ({"audio": "a.npy"}, "got 0 axes"),
        ({"audio": np.array([["1"] * 5])}, "expected audio to be numbers"),
        ({"audio": [[1, 2, 3, 4, 5], [1, 2]]}, "expected audio to be numbers"),
        ({"audio": torch.zeros(2, 5, dtype=torch.complex64)}, "expected audio to be numbers"),
        ({"text": "a", "audio": [np.zeros((3, 5))]}, "got one of text, several of audio"),
        ({"text": ["a", "b"], "audio": [np.zeros((3, 5))]}, "got {'text': 2, 'audio': 1}"),
        ({"audio": []}, "got {'audio': 0}"),
    ],
)
def test_input_that_does_not_fit_says_what_would(judged, samples, message):
    with pytest.raises(DataError, match=message):
        judged[0].predict(**samples)


def test_a_models_own_names_are_its_arguments(tmp_path):
    config = DerlConfig.smoke(
        modalities=["pulse", "gaze"],
        input_dims={"pulse": 1, "gaze": 2},
        max_lengths={"pulse": 9, "gaze": 8},
        typical_lengths={"pulse": 4},
    )
    DerlModel(config).save_pretrained(tmp_path)
    predictor = Predictor.from_pretrained(tmp_path)
    assert predictor.predict(gaze=np.zeros((3, 2))).weights == {"pulse": 0, "gaze": 1}
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, DerlProcessor)
    assert processor(gaze=np.zeros((3, 2)))["inputs"]["pulse"].shape == (1, 4, 1)
    assert processor(pulse=np.zeros((3, 1)))["inputs"]["gaze"].shape == (1, 8, 2)


def test_the_folder_alone_is_the_whole_model(judged, tmp_path):
    predictor, _, _ = judged
    shutil.copytree(predictor.model.name_or_path, tmp_path / "copy")
    model = AutoModel.from_pretrained(tmp_path / "copy")
    processor = AutoProcessor.from_pretrained(tmp_path / "copy")
    assert type(model) is DerlModel
    sample = {"text": "great ship", "audio": np.ones((4, 5)), "vision": np.ones((4, 20))}
    with torch.inference_mode():
        assert model(**processor(**sample)).prediction.item() == predictor.predict(**sample).score
    assert not [path for path in (tmp_path / "copy").iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]


def test_a_model_built_by_hand_is_saved_whole(judged, tmp_path):
    predictor, _, _ = judged
    predictor.model.save_pretrained(tmp_path)
    predictor.processor.save_pretrained(tmp_path)
    assert Predictor.from_pretrained(tmp_path).predict(text="great ship") == predictor.predict(text="great ship")


def test_the_plain_baseline_is_loaded_as_what_it_is(tmp_path):
    PlainModel(DerlConfig.smoke(modalities=["audio"])).save_pretrained(tmp_path)
    assert type(AutoModel.from_pretrained(tmp_path)) is PlainModel
    assert Predictor.from_pretrained(tmp_path).predict(audio=np.zeros((3, 5))).weights is None


def test_pickled_weights_are_refused(tmp_path):
    model = DerlModel(DerlConfig.smoke(modalities=["audio"]))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"expected weights in safetensors, got pytorch_model\.bin; a pickle can run"):
        AutoModel.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    AutoModel.from_pretrained(tmp_path)
    with pytest.raises(DataError, match="expected weights in safetensors"):
        DerlModel.from_pretrained(tmp_path, use_safetensors=False)


def test_a_folder_of_something_else_is_named(tmp_path):
    BertModel(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="expected a model of type 'derl', found 'bert'"):
        Predictor.from_pretrained(tmp_path)


def test_weights_or_a_tokenizer_that_are_not_there_are_named(judged, tmp_path):
    predictor, _, _ = judged
    state = predictor.model.state_dict()
    predictor.model.save_pretrained(
        tmp_path, state_dict={name: part for name, part in state.items() if "head" not in name}
    )
    with pytest.raises(DataError, match=r"expected weights of the whole model, found none of head\.bias"):
        Predictor.from_pretrained(tmp_path)
    predictor.model.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="expected a tokenizer beside the model"):
        Predictor.from_pretrained(tmp_path)
