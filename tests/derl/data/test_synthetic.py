import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from derl.data.best_possible import best_possible, label_posterior
from derl.data.label_counts import label_counts
from derl.data.missing import MissingDataset
from derl.data.printed import PRINTED
from derl.data.split import Split
from derl.data.synthetic import (
    CLASS_COUNTS,
    GRID,
    LEVEL_OF_WORD,
    LEVEL_VALUES,
    LEVELS,
    MAX_LENGTHS,
    SENTIMENT_WORD,
    TOPICS,
    WORD_SPREAD,
    make_synthetic,
)
from modx.metrics import sentiment_metrics

MODALITIES = ("text", "audio", "vision")
SMALL = {"train": 30, "valid": 10, "test": 20}


@pytest.fixture(scope="module")
def mosi():
    return make_synthetic(0)


@pytest.fixture(scope="module")
def small():
    return make_synthetic(5, SMALL, {"text": 14, "audio": 6, "vision": 5})


def keep_masks(split, rate, seed=0, modalities=MODALITIES):
    generator = torch.Generator().manual_seed(seed)
    lengths = {"text": torch.tensor([len(line.split()) + 2 for line in split.text]), **split.lengths}
    return {m: [torch.rand(length, generator=generator) >= rate for length in lengths[m].tolist()] for m in modalities}


def with_split(synthetic, name, split):
    return dataclasses.replace(synthetic, splits=synthetic.splits | {name: split})


# --- the splits ---


def test_sizes_and_class_counts_are_those_of_mosi(mosi):
    assert {name: len(split) for name, split in mosi.splits.items()} == {"train": 1284, "valid": 229, "test": 686}
    expected = {
        "train": [24, 199, 227, 248, 227, 313, 46],
        "valid": [10, 30, 32, 49, 39, 50, 19],
        "test": [46, 156, 145, 106, 113, 100, 20],
    }
    for name, split in mosi.splits.items():
        classes = split.labels.clamp(-3, 3).round().long() + 3
        assert classes.bincount(minlength=7).tolist() == expected[name]
        assert label_counts(split.labels) == PRINTED["Table A.7"]["MOSI"][name]
        distance = np.abs(split.labels.double().numpy()[:, None] - GRID).min(1)
        assert distance.max() < 1e-6


def test_sizes_scale_the_class_counts_by_largest_remainder():
    synthetic = make_synthetic(0, {"train": 13, "valid": 229, "test": 1})
    counts = (synthetic.splits["train"].labels.round().long() + 3).bincount(minlength=7)
    assert counts.tolist() == [0, 2, 2, 3, 2, 3, 1]  # exact: 0.24 2.01 2.30 2.51 2.30 3.17 0.47
    assert (synthetic.splits["valid"].labels.round().long() + 3).bincount().tolist() == list(CLASS_COUNTS["valid"])
    assert len(synthetic.splits["test"]) == 1


def test_lengths_vary_within_their_bounds(mosi):
    for split in mosi.splits.values():
        words = np.array([len(line.split()) for line in split.text])
        assert words.min() == 8
        assert words.max() <= 48
        assert 12.5 < words.mean() < 15.5
        for m in ("audio", "vision"):
            share = split.lengths[m].double() / MAX_LENGTHS[m]
            assert split.lengths[m].min() >= 1
            assert 0.35 < share.mean() < 0.45
            padding = torch.arange(MAX_LENGTHS[m]) >= split.lengths[m][:, None]
            assert not split.features[m][padding].any()
            assert split.features[m][~padding].all()


def test_reproducible_from_the_seed():
    first, again, other = (make_synthetic(seed, SMALL, {"text": 20, "audio": 6, "vision": 5}) for seed in (3, 3, 4))
    for name in SMALL:
        assert first.splits[name].text == again.splits[name].text != other.splits[name].text
        assert torch.equal(first.splits[name].labels, again.splits[name].labels)
        for m in ("audio", "vision"):
            assert torch.equal(first.splits[name].features[m], again.splits[name].features[m])
            assert not torch.equal(first.splits[name].features[m], other.splits[name].features[m])


def test_max_lengths_bound_everything():
    split = make_synthetic(0, SMALL, {"text": 5, "audio": 3, "vision": 2}).splits["train"]
    assert {len(line.split()) for line in split.text} == {3}
    assert split.features["audio"].shape[1:] == (3, 5)
    assert split.features["vision"].shape[1:] == (2, 20)


# --- the tokenizer ---


def test_tokenizer_round_trip(mosi, tmp_path):
    mosi.tokenizer.save_pretrained(tmp_path)
    again = type(mosi.tokenizer).from_pretrained(tmp_path)
    for line in mosi.splits["valid"].text:
        ids = mosi.tokenizer(line)["input_ids"]
        assert len(ids) == len(line.split()) + 2
        assert (ids[0], ids[-1]) == (mosi.tokenizer.cls_token_id, mosi.tokenizer.sep_token_id)
        assert mosi.tokenizer.unk_token_id not in ids
        assert mosi.tokenizer.decode(ids, skip_special_tokens=True) == line
        assert again(line)["input_ids"] == ids
    assert mosi.tokenizer("good zzz")["input_ids"][2] == mosi.tokenizer.unk_token_id
    assert mosi.tokenizer.pad_token_id == 0


def test_every_word_has_one_meaning():
    topic_words = {word for topic in TOPICS for word in topic.split()}
    assert len(LEVEL_OF_WORD) == sum(len(level.split()) for level in LEVELS) == 4 * len(LEVELS)
    assert not topic_words & set(LEVEL_OF_WORD)


# --- the posterior ---


def brute_force(synthetic, name, keep):
    """Enumerate the labels with scipy's densities; every word counts, its topic summed out."""
    split = synthetic.splits[name]
    labels = split.labels.numpy()
    posterior = np.zeros((len(split), len(GRID)))

    def alike(a, b):  # of one class, and near zero of one sign
        return round(a) == round(b) and (round(a) != 0 or np.sign(a) == np.sign(b))

    for row, (g, y) in itertools.product(range(len(split)), enumerate(GRID)):
        density = np.mean([alike(label, y) for label in labels]) / sum(alike(other, y) for other in GRID)
        if "text" in keep:
            words = [w for w, k in zip(split.text[row].split(), keep["text"][row][1:-1], strict=True) if k]
            levels = np.exp(-((LEVEL_VALUES - y) ** 2) / (2 * WORD_SPREAD**2))
            levels /= levels.sum()
            topics = 0.0
            for topic in TOPICS:
                likelihood = 1.0
                for word in words:
                    if word in LEVEL_OF_WORD:
                        likelihood *= SENTIMENT_WORD * levels[LEVEL_OF_WORD[word]] / 4
                    else:
                        likelihood *= (1 - SENTIMENT_WORD) * (word in topic.split()) / len(topic.split())
                topics += likelihood / len(TOPICS)
            density *= topics
        for m in ("audio", "vision"):
            if m in keep and keep[m][row].any():
                # all frames at once: mean y u, covariance V V' between frames, plus I within a frame
                frames = split.features[m][row, : len(keep[m][row])].double()[keep[m][row]].numpy()
                n, width = frames.shape
                shared = synthetic.loadings[m] @ synthetic.loadings[m].T
                covariance = np.kron(np.ones((n, n)), shared) + np.eye(n * width)
                density *= multivariate_normal.pdf(frames.ravel(), np.tile(y * synthetic.directions[m], n), covariance)
        posterior[row, g] = density
    return posterior / posterior.sum(1, keepdims=True)


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("modalities", [("text",), ("audio",), ("vision",), MODALITIES])
def test_posterior_against_enumeration(small, modalities, rate):
    strong = dataclasses.replace(  # signals a few frames can tell apart, drawn for by the frames or not
        small,
        directions={m: 9 * u for m, u in small.directions.items()},
        loadings={m: 7 * v for m, v in small.loadings.items()},
    )
    keep = keep_masks(small.splits["valid"], rate, modalities=modalities)
    for synthetic in (small, strong):
        posterior = label_posterior(synthetic, "valid", keep)
        np.testing.assert_allclose(posterior, brute_force(synthetic, "valid", keep), rtol=1e-9, atol=1e-14)


def test_with_nothing_observed_the_posterior_is_the_prior(mosi):
    for name, counts in CLASS_COUNTS.items():
        split = mosi.splits[name]
        negative, zero, positive = {"train": (102, 53, 93), "valid": (20, 13, 16), "test": (32, 30, 44)}[name]
        of_class = (np.round(GRID)[:, None] == np.arange(-3, 4)).astype(float)
        prior = of_class @ (np.array(counts) / sum(counts) / of_class.sum(0))
        prior[13:18] = np.array([negative / 2, negative / 2, zero, positive / 2, positive / 2]) / sum(counts)
        for keep in ({}, keep_masks(split, 1.0)):
            posterior = label_posterior(mosi, name, keep)
            np.testing.assert_allclose(posterior, np.tile(prior, (len(split), 1)), rtol=1e-12)


def test_erased_content_does_not_matter(small):
    split = small.splits["test"]
    keep = keep_masks(split, 0.5)
    features = {m: x.clone() for m, x in split.features.items()}
    for m, row in itertools.product(features, range(len(split))):
        gone = ~keep[m][row]
        features[m][row, : len(gone)][gone] = 1e6
    text = [
        " ".join(word if k else "masterpiece" for word, k in zip(line.split(), mask[1:-1], strict=True))
        for line, mask in zip(split.text, keep["text"], strict=True)
    ]
    assert text != split.text
    changed = with_split(small, "test", dataclasses.replace(split, text=text, features=features))
    np.testing.assert_array_equal(label_posterior(changed, "test", keep), label_posterior(small, "test", keep))
    everything = keep_masks(split, 0.0)
    assert not np.allclose(label_posterior(changed, "test", everything), label_posterior(small, "test", everything))


def test_unk_is_invisible(small):
    split = small.splits["test"]
    keep = keep_masks(split, 0.5, modalities=("text",))
    text = [
        " ".join(word if k else "[UNK]" for word, k in zip(line.split(), mask[1:-1], strict=True))
        for line, mask in zip(split.text, keep["text"], strict=True)
    ]
    unknown = with_split(small, "test", dataclasses.replace(split, text=text))
    everything = keep_masks(split, 0.0, modalities=("text",))
    np.testing.assert_array_equal(label_posterior(unknown, "test", everything), label_posterior(small, "test", keep))


def test_special_tokens_are_invisible(small):
    keep = keep_masks(small.splits["test"], 0.0, modalities=("text",))
    before = label_posterior(small, "test", keep)
    for mask in keep["text"]:
        mask[0] = mask[-1] = False
    np.testing.assert_array_equal(label_posterior(small, "test", keep), before)


def test_masks_of_the_dataset_padded_or_not(small):
    data = MissingDataset(
        small.splits["test"], small.tokenizer, max_lengths=MAX_LENGTHS, modalities=MODALITIES, seed=0, rate=0.3
    )
    keep = {m: [item["keep"][m] for item in data] for m in MODALITIES}
    padded = {m: torch.nn.utils.rnn.pad_sequence(masks, batch_first=True) for m, masks in keep.items()}
    np.testing.assert_array_equal(label_posterior(small, "test", keep), label_posterior(small, "test", padded))
    with pytest.raises(ValueError, match="20 masks for each of"):
        label_posterior(small, "test", {"text": keep["text"][:-1]})
    with pytest.raises(ValueError, match="'smell'"):
        label_posterior(small, "test", {"smell": keep["text"]})
    with pytest.raises(ValueError, match="mask of audio of at least"):
        label_posterior(small, "test", {"audio": [mask[:0] for mask in keep["audio"]]})


def test_the_posterior_is_calibrated(mosi):
    """Labels are as far from the posterior's mean, and as often in its bins, as it says they will be."""
    drawn = [mosi, *(make_synthetic(seed) for seed in (1, 2))]  # of one seed alone the error of these means is 0.04
    y = np.concatenate([each.splits["train"].labels.double().numpy() for each in drawn])
    truth = np.abs(GRID - y[:, None]).argmin(1)
    for rate in (0.0, 0.5, 0.9):
        posterior = np.concatenate(
            [label_posterior(each, "train", keep_masks(each.splits["train"], rate)) for each in drawn]
        )
        mean = posterior @ GRID
        variance = posterior @ GRID**2 - mean**2
        assert abs((y - mean).mean()) < 4 * np.sqrt(variance.mean() / len(y))
        slope = np.cov(mean, y)[0, 1] / mean.var()
        assert abs(slope - 1) < 0.15
        assert 0.9 < ((y - mean) ** 2 / variance).mean() < 1.1
        positive = posterior[:, GRID > 0].sum(1)
        for low in np.arange(0, 1, 0.25):
            chosen = (positive >= low) & (positive < low + 0.25)
            if chosen.sum() > 50:
                error = 4 * 0.5 / np.sqrt(chosen.sum())
                assert abs((y[chosen] > 0).mean() - positive[chosen].mean()) < error
        # the log score has the mean that the posterior itself expects
        expected = (posterior * np.log(posterior + 1e-300)).sum(1).mean()
        assert abs(np.log(posterior[np.arange(len(y)), truth]).mean() - expected) < 0.1


# --- the best possible scores ---


def test_strengths_are_as_designed_and_fall_with_the_rate(mosi):
    split = mosi.splits["test"]
    best = {
        (modalities, rate): best_possible(
            label_posterior(mosi, "test", keep_masks(split, rate, modalities=modalities)), split.labels
        )
        for modalities in (("text",), ("audio",), ("vision",), MODALITIES)
        for rate in (0.0, 0.5, 0.9)
    }
    for modalities, corr in {("text",): 0.75, ("audio",): 0.5, ("vision",): 0.55, MODALITIES: 0.85}.items():
        assert best[modalities, 0.0]["corr"].item() == pytest.approx(corr, abs=0.05)
        for milder, harsher in ((0.0, 0.5), (0.5, 0.9)):
            assert best[modalities, milder]["corr"] > best[modalities, harsher]["corr"] + 0.02
    for metric, full in best[MODALITIES, 0.0].items():
        lossy = best[MODALITIES, 0.9][metric]
        assert full < lossy - 0.2 if metric == "mae" else full > lossy + 0.05


@pytest.mark.filterwarnings("ignore:corr is nan")
def test_each_metric_gets_the_decision_that_suits_it():
    """Where every row has one posterior, no other constant answer scores better, but for chance."""
    rng = np.random.default_rng(0)
    for row in rng.dirichlet(np.full(len(GRID), 0.2), 5):
        target = torch.tensor(rng.choice(GRID, 10_000, p=row))
        best = best_possible(np.tile(row, (len(target), 1)), target)
        assert list(best) == list(sentiment_metrics(target, target))
        assert best["corr"].isnan()
        for answer in GRID:
            scores = sentiment_metrics(torch.full_like(target, answer), target)
            assert best["mae"] < scores["mae"] + 0.02
            assert all(best[m] > scores[m] - 0.02 for m in ("acc2_has0", "acc2_non0", "acc5", "acc7"))


def test_a_certain_posterior_scores_perfectly():
    target = torch.tensor(GRID, dtype=torch.float32)
    best = best_possible(np.eye(len(GRID)), target)
    assert best.pop("mae").item() == pytest.approx(0, abs=1e-6)
    assert all(score.item() == pytest.approx(1) for score in best.values())


def test_one_row_splits_are_legal():
    synthetic = make_synthetic(0, {"train": 1, "valid": 1, "test": 1}, {"text": 3, "audio": 1, "vision": 1})
    split = synthetic.splits["train"]
    assert isinstance(split, Split)
    assert label_posterior(synthetic, "train", keep_masks(split, 0.0)).sum() == pytest.approx(1)
