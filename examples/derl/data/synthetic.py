"""A synthetic CMU-MOSI whose best possible predictor is known (:mod:`derl.data.best_possible`).

Split sizes, class counts and sign counts match CMU-MOSI. Given the label y, the modalities are independent:

- text: with probability ``SENTIMENT_WORD``, a word is a sentiment word, whose level l (value v_l) has P(l | y)
  proportional to exp(-(v_l - y)^2 / (2 WORD_SPREAD^2)). Otherwise it is a word of the sample's private topic, which is
  independent of y.
- audio and vision: frame t is ``y u + V z + e_t``, where z ~ N(0, I) are private factors of the sample and e_t ~ N(0,
  I) is noise. u lies in the span of V, so z confounds y no matter how many frames are seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from derl.data.classes import LIMIT, seven_classes
from derl.data.printed import PRINTED
from derl.data.split import Split
from derl.data.words import SPECIAL_TOKENS, finish

GRID = np.round(np.arange(-15, 16) * 0.2, 1)
CLASSES = np.arange(-LIMIT, LIMIT + 1)
CLASS_COUNTS = {  # CMU-MOSI, classes -3 to 3
    "train": (24, 199, 227, 248, 227, 313, 46),
    "valid": (10, 30, 32, 49, 39, 50, 19),
    "test": (46, 156, 145, 106, 113, 100, 20),
}
SIGN_COUNTS = PRINTED["Table A.7"]["MOSI"]  # negative, zero, positive
MAX_LENGTHS = {"text": 50, "audio": 375, "vision": 500}
MIN_WORDS, MEAN_WORDS = 8, 14
SENTIMENT_WORD, WORD_SPREAD = 0.18, 1.5


def group_of(labels: np.ndarray) -> np.ndarray:
    """Return the group of each label: its class of the seven, with class 0 divided by sign."""
    classes = seven_classes(labels)
    return 2 * classes + np.where(classes == 0, np.sign(labels), 0)


CLASS_OF_GRID, GROUP_OF_GRID = seven_classes(GRID), group_of(GRID)
GROUPS = np.unique(GROUP_OF_GRID)


@dataclass(frozen=True)
class Sensor:
    """Signal and confounder of a modality's frames, in units of the frame noise."""

    width: int
    signal: float  # |u|
    confounder: float  # standard deviation of V z along each of its directions
    num_factors: int = 3


SENSORS = {
    "audio": Sensor(width=5, signal=0.050, confounder=0.112),
    "vision": Sensor(width=20, signal=0.050, confounder=0.085),
}
LEVELS = [  # worst to best, four words each
    "abysmal atrocious appalling vile",
    "horrible terrible awful dreadful",
    "disgusting pathetic insulting miserable",
    "bad lousy stupid painful",
    "boring annoying disappointing weak",
    "dull bland messy clumsy",
    "slow flat forgettable uneven",
    "ordinary average typical middling",
    "watchable passable acceptable fair",
    "decent okay likable pleasant",
    "good nice enjoyable funny",
    "strong charming clever touching",
    "great lovely impressive delightful",
    "excellent wonderful fantastic superb",
    "amazing brilliant perfect masterpiece",
]
TOPICS = [
    "car chase road driver engine race crash speed street garage wheel tunnel",
    "castle knight sword king queen forest dragon tower horse battle crown shield",
    "ship ocean captain island storm harbour sailor wave anchor treasure map beach",
    "space planet rocket crew signal orbit station robot laser moon pilot engineer",
    "school teacher student class lesson friend party locker coach exam summer bus",
    "court lawyer judge witness trial jury letter office police prison case file",
    "kitchen chef dinner recipe table waiter wine market bread family garden sunday",
    "song band guitar stage singer tour crowd drum record studio radio piano",
]
LEVEL_VALUES = np.linspace(-3, 3, len(LEVELS))
LEVEL_OF_WORD = {word: level for level, words in enumerate(LEVELS) for word in words.split()}


@dataclass(frozen=True, eq=False)
class SyntheticMosi:
    """Synthetic splits, their tokenizer, and the parameters that the best possible predictor needs.

    Attributes:
        splits: train, valid and test, each with text, audio and vision.
        tokenizer: one token per word, between [CLS] and [SEP].
        directions: modality -> u ``(D,)``.
        loadings: modality -> V ``(D, num_factors)``.
    """

    splits: dict[str, Split]
    tokenizer: PreTrainedTokenizerFast
    directions: dict[str, np.ndarray]
    loadings: dict[str, np.ndarray]


def make_synthetic(
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    max_lengths: Mapping[str, int] = MAX_LENGTHS,
) -> SyntheticMosi:
    """Draw a synthetic CMU-MOSI.

    Args:
        seed: seed of all random draws.
        sizes: split -> number of rows; class counts are scaled to match. Default: the sizes of CMU-MOSI.
        max_lengths: maximum length of text in tokens (at least 3), and of audio and vision in frames.

    Example:
        >>> synthetic = make_synthetic(sizes={"train": 8, "valid": 2, "test": 4})
        >>> {name: len(split) for name, split in synthetic.splits.items()}
        {'train': 8, 'valid': 2, 'test': 4}
    """
    rng = np.random.default_rng(seed)
    bases = {m: _orthonormal(rng, sensor.width, sensor.num_factors) for m, sensor in SENSORS.items()}
    directions = {m: SENSORS[m].signal * basis.mean(1) * basis.shape[1] ** 0.5 for m, basis in bases.items()}
    loadings = {m: SENSORS[m].confounder * basis for m, basis in bases.items()}
    splits = {}
    for name, counts in CLASS_COUNTS.items():
        scaled = _scale(counts, sum(counts) if sizes is None else sizes[name])
        labels = _draw_labels(rng, _part_by_sign(scaled, counts, SIGN_COUNTS[name]))
        features, lengths = {}, {}
        for m in SENSORS:
            features[m], lengths[m] = _draw_frames(rng, labels, directions[m], loadings[m], max_lengths[m])
        splits[name] = Split(
            ids=[f"{name}$_${row}" for row in range(len(labels))],
            text=[_draw_text(rng, label, max_lengths["text"] - 2) for label in labels],
            features=features,
            lengths=lengths,
            labels=torch.tensor(labels, dtype=torch.float32),
        )
    return SyntheticMosi(splits, _tokenizer(), directions, loadings)


def level_log_probabilities() -> np.ndarray:
    """Return log P(l | y), ``(31, levels)``."""
    logits = -((LEVEL_VALUES - GRID[:, None]) ** 2) / (2 * WORD_SPREAD**2)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _scale(counts: Sequence[int], size: int) -> list[int]:
    """Scale class counts to a given sum by the largest-remainder method."""
    exact = np.array(counts) * size / sum(counts)
    scaled = np.floor(exact).astype(int)
    scaled[np.argsort(scaled - exact, kind="stable")[: size - scaled.sum()]] += 1
    return scaled.tolist()


def _part_by_sign(scaled: list[int], classes: Sequence[int], signs: Sequence[int]) -> list[int]:
    """Divide class 0 of scaled class counts into negative, zero and positive labels."""
    near_zero = (signs[0] - sum(classes[:3]), signs[1], signs[2] - sum(classes[4:]))
    return [*scaled[:3], *_scale(near_zero, scaled[3]), *scaled[4:]]


def _draw_labels(rng: np.random.Generator, counts: list[int]) -> np.ndarray:
    labels = [
        rng.choice(GRID[group == GROUP_OF_GRID], size) for group, size in zip(GROUPS, counts, strict=True) if size
    ]
    return rng.permutation(np.concatenate(labels))


def _draw_text(rng: np.random.Generator, label: float, max_words: int) -> str:
    extra = rng.geometric(1 / (MEAN_WORDS - MIN_WORDS + 1)) - 1
    num_words = min(MIN_WORDS + int(extra), max_words)
    topic = TOPICS[rng.integers(len(TOPICS))].split()
    levels = np.exp(level_log_probabilities()[np.abs(GRID - label).argmin()])
    words = []
    for _ in range(num_words):
        is_sentiment = rng.random() < SENTIMENT_WORD
        words.append(rng.choice(LEVELS[rng.choice(len(LEVELS), p=levels)].split() if is_sentiment else topic))
    return " ".join(words)


def _draw_frames(
    rng: np.random.Generator, labels: np.ndarray, u: np.ndarray, loadings: np.ndarray, max_length: int
) -> tuple[Tensor, Tensor]:
    """Return frames ``(n, L, D)``, zero past each row's length, and the lengths, 40% of the maximum on average."""
    lengths = np.ceil(rng.beta(2, 3, len(labels)) * max_length).astype(np.int64)
    center = labels[:, None] * u + rng.standard_normal((len(labels), loadings.shape[1])) @ loadings.T
    noise = rng.standard_normal((len(labels), max_length, len(u)), dtype=np.float32)
    real = np.arange(max_length) < lengths[:, None]
    frames = (noise + center[:, None].astype(np.float32)) * real[..., None]
    return torch.from_numpy(frames), torch.from_numpy(lengths)


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def _tokenizer() -> PreTrainedTokenizerFast:
    specials = list(SPECIAL_TOKENS.values())
    topic_words = sorted({word for topic in TOPICS for word in topic.split()})
    vocabulary = {word: i for i, word in enumerate([*specials, *LEVEL_OF_WORD, *topic_words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a word, not a password
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return finish(tokenizer)
