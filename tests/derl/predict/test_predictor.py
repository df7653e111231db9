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
from derl.evaluate.conformal import Calibration
from derl.evaluate.scores import predict
from derl.predict.trust import Trust
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


@pytest.mark.filterwarnings("ignore:audio holds infinity in 15 values:UserWarning")
@pytest.mark.parametrize("nothing", [None, np.zeros((0, 5)), np.full((3, 5), np.nan), np.full((3, 5), 1e300)])
def test_a_sample_without_any_input_is_answered_by_the_training_mean(judged, nothing):
    predictor, setup, _ = judged
    with pytest.warns(UserWarning, match="1 of 2 samples have no input at all; the mean of the training labels"):
        answer, other = predictor.predict(text=["", "great ship"], audio=[nothing, None])
    assert answer.score == pytest.approx(setup.splits["train"].labels.mean().item())
    assert set(answer.weights.values()) == {0.0}
    alone = predictor.predict(text="great ship")  # in a batch of another size, the same up to rounding
    assert (other.score, *other.interval) == pytest.approx((alone.score, *alone.interval), abs=1e-5)
    assert other.weights == pytest.approx(alone.weights, abs=1e-5)


@pytest.mark.parametrize("nan", [float("nan"), np.float64("nan")])
def test_nan_in_the_place_of_a_sample_is_an_empty_cell_of_a_table(judged, nan):
    predictor, frames = judged[0], np.ones((3, 5))
    columns = {"text": ["great ship", nan], "audio": [nan, frames]}
    expected = predictor.predict(text=["great ship", None], audio=[None, frames])
    assert predictor.predict(**columns) == expected
    assert predictor.predict(**{name: tuple(cells) for name, cells in columns.items()}) == expected
    assert predictor.predict(text="great ship", audio=nan) == predictor.predict(text="great ship")


def test_text_without_a_known_word_is_said_to_be_so(judged):
    with pytest.warns(UserWarning, match="no word that the model knows in 1 of 2 samples"):
        judged[0].predict(text=["great", "Guten Tag"])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({}, r"expected at least one of \('text', 'audio', 'vision'\), got none"),
        ({"text": None}, "expected at least one of"),
        ({"text": float("nan")}, "expected at least one of"),
        ({"smell": 1}, "expected the model's modalities, .*, got 'smell'"),
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
    expected = replace(predictor.predict(text="great ship"), interval=None)  # calibrated for the run's weights
    assert Predictor.from_pretrained(tmp_path).predict(text="great ship") == expected


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


@pytest.fixture
def calibrated(judged):
    """A predictor whose conditions have widths that tell them apart."""
    scores = {"text+audio+vision": 1.0, "text+audio": 2.0, "text": 3.0, "audio": 2.5, "r=0.5": 2.2, "r=0.9": 4.0}
    calibration = Calibration.of({name: torch.full((99,), value) for name, value in scores.items()})
    return Predictor(judged[0].model, judged[0].processor, trust=Trust(calibration))


AUDIO, VISION = np.ones((10, 5)), np.ones((10, 20))


@pytest.mark.parametrize(
    ("sample", "radius"),
    [
        ({"text": "great ship", "audio": AUDIO, "vision": VISION}, 1.0),
        ({"text": "great ship", "audio": AUDIO}, 2.0),
        ({"text": "great ship"}, 3.0),
        ({"text": "great ship", "vision": VISION}, np.inf),  # not calibrated
    ],
)
def test_an_interval_is_that_of_what_is_there(calibrated, sample, radius):
    answer = calibrated.predict(**sample)
    assert answer.interval == (pytest.approx(answer.score - radius), pytest.approx(answer.score + radius))
    assert not answer.abstains


@pytest.mark.parametrize(("kept", "radius"), [(10, 1.0), (6, np.inf), (5, 2.2), (1, 4.0)])
def test_an_interval_is_that_of_how_much_is_there(calibrated, kept, radius):
    samples, _ = calibrated.processor.read(text="great ship", audio=AUDIO, vision=VISION)
    batch = calibrated.processor.batch(samples)
    batch["keep"]["audio"][:, kept:] = False
    (answer,) = calibrated.predict_batch(batch)
    assert answer.interval[1] - answer.score == pytest.approx(radius, abs=1e-5)


def test_a_predictor_abstains_where_the_interval_is_wider_than_it_may_be(calibrated):
    calibrated.trust = replace(calibrated.trust, abstain=4.0)
    answers = calibrated.predict(text=["great ship"] * 2, audio=[AUDIO, None])
    assert [answer.abstains for answer in answers] == [False, True]  # widths 4 and 6


def test_trust_is_set_when_a_model_is_loaded(smoke_run):
    low, high = (
        Predictor.from_pretrained(smoke_run / "model", confidence_level=level).predict(text="great ship")
        for level in (0.5, 0.8)
    )
    assert low.interval[0] > high.interval[0]
    assert Predictor.from_pretrained(smoke_run / "model", abstain=0).predict(text="great ship").abstains


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"confidence_level": 90}, ValueError, "confidence_level expected 0.01, 0.02 .. or 0.99, got 90"),
        ({"abstain": -1.0}, ValueError, "expected abstain >= 0, got -1.0"),
        ({"abstain": float("nan")}, ValueError, "expected abstain >= 0, got nan"),
        ({"abstain": 1.0}, DataError, r"expected calibration\.json beside the model for an interval, found none"),
        ({"confidence_level": 0.5}, DataError, r"expected calibration\.json beside the model"),
    ],
)
def test_trust_that_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Trust(**options)


def test_a_score_that_is_not_finite_names_its_sample_and_the_largest_value():
    config = DerlConfig.smoke(modalities=["audio", "vision"])
    predictor = Predictor(DerlModel(config).half(), DerlProcessor(config, None), batch_size=2)
    frames = np.ones((4, 5), dtype=np.float32)
    with pytest.raises(DataError, match=r"got nan from a model in torch\.float16; .* value is 1\.5e\+05, of audio"):
        predictor.predict(audio=1.5e5 * frames)
    with pytest.raises(DataError, match=r"got nan for sample 2 from a model in torch\.float16"):
        predictor.predict(audio=[frames, frames, 1.5e5 * frames, frames])


def test_frames_that_a_mask_hides_are_as_frames_of_nan(judged):
    predictor, rng = judged[0], np.random.default_rng(0)
    audio, mask = rng.standard_normal((9, 5)), rng.random(9) < 0.6
    masked = predictor.predict(text="great ship", audio=audio, masks={"audio": mask})
    assert masked == predictor.predict(text="great ship", audio=np.where(mask[:, None], audio, np.nan))
    with pytest.warns(
        UserWarning, match=rf"audio holds infinity in {5 * (~mask).sum()} values, which count as missing"
    ):
        assert masked == predictor.predict(text="great ship", audio=np.where(mask[:, None], audio, -np.inf))
    assert masked == predictor.predict(text="great ship", audio=audio, masks={"audio": mask.tolist()})
    assert masked != predictor.predict(text="great ship", audio=audio)
    for value in (np.nan, np.inf, 1e30):  # what is hidden is never read
        hidden = np.where(mask[:, None], audio, value)
        assert masked == predictor.predict(text="great ship", audio=hidden, masks={"audio": mask})
    nothing = predictor.predict(text="great ship", audio=audio, masks={"audio": np.zeros(9, dtype=bool)})
    assert nothing == predictor.predict(text="great ship")


def test_several_samples_have_a_mask_each(judged):
    predictor, audio, mask = judged[0], np.ones((2, 9, 5)), np.arange(9) < 5
    both = predictor.predict(audio=audio, masks={"audio": [mask, None]})
    alone = [predictor.predict(audio=audio[0], masks={"audio": mask}), predictor.predict(audio=audio[1])]
    for one, other in zip(both, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.interval == pytest.approx(other.interval, abs=1e-5)
    assert len(predictor.predict(audio=audio, masks={"audio": np.stack([mask, mask])})) == 2


def test_the_interval_of_a_sample_with_masked_frames_is_that_of_its_rate(calibrated):
    given = {"text": "great ship", "audio": AUDIO, "vision": VISION}
    answer = calibrated.predict(**given, masks={"audio": np.arange(10) < 5})
    assert answer.interval[1] - answer.score == pytest.approx(2.2, abs=1e-5)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([True], "expected masks to be a dict by modality, got list"),
        ({"vision": [True]}, r"expected masks of \('audio',\), the frames that are given, got 'vision'; leave it out"),
        ({"text": [True]}, r"got 'text'; write \[UNK\] for a missing word"),
        ({"audio": [True] * 8}, r"expected a mask of audio of shape \(10,\) and type bool, got \(8,\)"),
        ({"audio": [1.0] * 10}, r"got \(10,\) of torch.float32"),
        ({"audio": np.ones((10, 5), dtype=bool)}, r"got \(10, 5\) of torch.bool"),
    ],
)
def test_a_mask_that_does_not_fit_says_what_would(judged, masks, message):
    with pytest.raises(DataError, match=message):
        judged[0].predict(text="great ship", audio=AUDIO, masks=masks)


def test_masks_for_another_number_of_samples_are_refused(judged):
    with pytest.raises(DataError, match="expected 2 masks of audio, one per sample, got 1; put None where all frames"):
        judged[0].predict(audio=[AUDIO, AUDIO], masks={"audio": [[True] * 10]})


def test_a_modality_named_masks_is_a_modality():
    config = DerlConfig.smoke(modalities=["masks"], input_dims={"masks": 2}, max_lengths={"masks": 9})
    predictor = Predictor(DerlModel(config), DerlProcessor(config, None))
    assert predictor.predict(masks=np.ones((3, 2))).weights == {"masks": 1.0}


@pytest.mark.parametrize(("quantile", "size"), [(0.0, 1), (0.99, 3)])
def test_a_classifier_answers_with_a_set_of_classes(quantile, size):
    torch.manual_seed(0)
    config = DerlConfig.smoke(
        modalities=["audio"], problem_type="single_label_classification", id2label={0: "no", 1: "yes", 2: "maybe"}
    )
    calibration = Calibration.of({"audio": torch.full((99,), quantile)})
    predictor = Predictor(DerlModel(config), DerlProcessor(config, None), trust=Trust(calibration, abstain=2))
    answer = predictor.predict(audio=AUDIO)
    assert len(answer.classes) == size
    assert answer.classes == tuple(sorted(answer.probabilities, key=answer.probabilities.get, reverse=True)[:size])
    assert answer.abstains is (size > 2)
    assert answer.interval is None
    with pytest.warns(UserWarning, match="1 of 1 samples have no input at all; the shares of the classes in training"):
        predictor.predict(audio=np.full((3, 5), np.nan))
