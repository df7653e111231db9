"""A synthetic CMU-MOSI whose best possible predictor is known, whatever goes missing.

Split sizes and the counts of classes and signs are those of CMU-MOSI. Given the label y, the modalities are
independent:

- text: every word is, with probability `SENTIMENT_WORD`, a sentiment word, whose level l (value v_l) has
  P(l | y) proportional to exp(-(v_l - y)^2 / (2 WORD_SPREAD^2)); otherwise it is a word of the sample's private
  topic, which says nothing of y.
- audio and vision: frame t is `y u + V z + e_t`, with z ~ N(0, I) the private factors of the sample and
  e_t ~ N(0, I) noise. u lies within the span of V, so z confounds y however many frames are seen.

Frames are exchangeable given (y, z), so the mean of the n that survive, N(y u, V V' + I / n), tells all they do.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from derl.data.classes import seven_classes
from derl.data.printed import PRINTED
from derl.data.split import Split
from modx.metrics import ConstantInputWarning, sentiment_metrics

GRID = np.round(np.arange(-15, 16) * 0.2, 1)
CLASSES = np.arange(-3, 4)
CLASS_COUNTS = {  # of CMU-MOSI, -3 to 3
    "train": (24, 199, 227, 248, 227, 313, 46),
    "valid": (10, 30, 32, 49, 39, 50, 19),
    "test": (46, 156, 145, 106, 113, 100, 20),
}
SIGN_COUNTS = PRINTED["Table A.7"]["MOSI"]  # negative, zero, positive
MAX_LENGTHS = {"text": 50, "audio": 375, "vision": 500}
MIN_WORDS, MEAN_WORDS = 8, 14
SENTIMENT_WORD, WORD_SPREAD = 0.18, 1.5


def group_of(labels: np.ndarray) -> np.ndarray:
    """The groups within which labels are drawn uniformly: the seven classes, 0 parted by sign."""
    classes = seven_classes(labels)
    return 2 * classes + np.where(classes == 0, np.sign(labels), 0)


CLASS_OF_GRID, GROUP_OF_GRID = seven_classes(GRID), group_of(GRID)
GROUPS = np.unique(GROUP_OF_GRID)


@dataclass(frozen=True)
class Sensor:
    """How strongly frames of a modality speak of y, per unit of frame noise."""

    width: int
    signal: float  # |u|
    confounder: float  # standard deviation of V z along each of its directions
    num_factors: int = 3


SENSORS = {
    "audio": Sensor(width=5, signal=0.050, confounder=0.112),
    "vision": Sensor(width=20, signal=0.050, confounder=0.085),
}
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
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
    """Synthetic splits, the tokenizer of their text, and what is needed to know the best prediction.

    Attributes:
        splits: train, valid and test, each with text, audio and vision.
        tokenizer: one token a word, between [CLS] and [SEP].
        directions: modality -> u `(D,)`.
        loadings: modality -> V `(D, num_factors)`.
    """

    splits: dict[str, Split]
    tokenizer: PreTrainedTokenizerFast
    directions: dict[str, np.ndarray]
    loadings: dict[str, np.ndarray]

    def posterior(self, split_name: str, keep: Mapping[str, Sequence[Tensor] | Tensor]) -> np.ndarray:
        """Probability of every label of `GRID`, given what survives.

        The prior is how often each class and sign occurs in the split: the generator and these frequencies are all
        that is known, and on average no predictor can do better with as much.

        Args:
            split_name: which split.
            keep: modality -> bool masks, True where an element survives: one per row, as `MissingDataset`
                serves them, or padded `(n, L)`; those of text include [CLS] and [SEP]. A modality left out is
                lost whole.

        Returns:
            `(n, 31)` float64 probabilities.

        Raises:
            ValueError: if a modality is unknown, or there is not one mask a row, at least as long as the row.
        """
        split = self.splits[split_name]
        log_posterior = np.tile(_log(_prior(split.labels)), (len(split), 1))
        for modality, masks in keep.items():
            if modality not in split.modalities or len(masks) != len(split):
                raise ValueError(
                    f"posterior expected {len(split)} masks for each of {split.modalities}, got {len(masks)} "
                    f"for {modality!r}; pass the keep mask of every row."
                )
            if modality == "text":
                log_posterior += _text_log_likelihood(split.text or [], masks)
            else:
                log_posterior += self._frames_log_likelihood(split, modality, masks)
        log_posterior -= log_posterior.max(axis=1, keepdims=True)
        probabilities = np.exp(log_posterior)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def _frames_log_likelihood(self, split: Split, modality: str, masks: Sequence[Tensor] | Tensor) -> np.ndarray:
        """log N(mean; y u, V V' + I / n) for every y of the grid, up to a constant in y; 0 where n = 0."""
        u, loadings = self.directions[modality], self.loadings[modality]
        # V V' + I / n = Q diag(eigenvalues + 1 / n) Q'
        eigenvalues, eigenvectors = np.linalg.eigh(loadings @ loadings.T)
        result = np.zeros((len(split), len(GRID)))
        for row, kept in enumerate(_rows(masks, split.lengths[modality].tolist(), modality)):
            if kept.any():
                frames = split.features[modality][row, : len(kept)].numpy()[kept]
                mean = eigenvectors.T @ frames.mean(axis=0, dtype=np.float64)
                variances = eigenvalues.clip(min=0) + 1 / kept.sum()
                residuals = mean - GRID[:, None] * (eigenvectors.T @ u)
                result[row] = -0.5 * (residuals**2 / variances).sum(axis=1)
        return result


def make_synthetic(
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    max_lengths: Mapping[str, int] = MAX_LENGTHS,
) -> SyntheticMosi:
    """Draw a synthetic CMU-MOSI.

    Args:
        seed: of everything drawn.
        sizes: split -> rows, with the class counts scaled; None for those of CMU-MOSI.
        max_lengths: of text in tokens, at least 3, and of audio and vision in frames.

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


def best_possible(posterior: np.ndarray, target: Tensor) -> dict[str, Tensor]:
    """Score the decisions that suit each metric best, given the posterior: no model can do better on average.

    The posterior median for `mae`, the mean for `corr`, the likelier sign for `acc2` and `f1`, the likeliest
    class for `acc5` and `acc7`. (For `corr` and `f1`, no row by row decision is exactly the best; these come
    close.)

    Args:
        posterior: `(n, 31)` probabilities of `GRID`.
        target: `(n,)` labels.

    Returns:
        The eight metrics of `modx.metrics.sentiment_metrics`.
    """
    positive, negative = posterior[:, GRID > 0].sum(1), posterior[:, GRID < 0].sum(1)
    decisions = {
        ("corr",): (posterior * GRID).sum(1),  # equal rows to the last bit, unlike a matrix product
        ("mae",): GRID[(posterior.cumsum(1) < 0.5).sum(1).clip(max=len(GRID) - 1)],
        ("acc2_has0", "f1_has0"): np.where(negative <= 0.5, 1.0, -1.0),
        ("acc2_non0", "f1_non0"): np.where(positive > negative, 1.0, -1.0),
        ("acc5",): _likeliest_class(posterior, 2),
        ("acc7",): _likeliest_class(posterior, 3),
    }
    best = {}
    for names, decision in decisions.items():
        with warnings.catch_warnings():
            if "corr" not in names:  # the correlation of the other decisions is of no interest
                warnings.simplefilter("ignore", ConstantInputWarning)
            scores = sentiment_metrics(torch.from_numpy(decision), target)
        best |= {name: scores[name] for name in names}
    return {name: best[name] for name in scores}


def _likeliest_class(posterior: np.ndarray, limit: int) -> np.ndarray:
    classes = np.arange(-limit, limit + 1)
    of_class = CLASS_OF_GRID.clip(-limit, limit)[:, None] == classes
    return classes[(posterior @ of_class).argmax(1)].astype(np.float64)


# --- what the posterior is made of ---


def _prior(labels: Tensor) -> np.ndarray:
    """Return P(y) over the grid: frequencies of the labels' groups, uniform within a group."""
    groups = group_of(labels.numpy())
    return np.array([(groups == group).mean() / (group == GROUP_OF_GRID).sum() for group in GROUP_OF_GRID])


def _level_log_probabilities() -> np.ndarray:
    """Return log P(l | y), `(31, levels)`."""
    logits = -((LEVEL_VALUES - GRID[:, None]) ** 2) / (2 * WORD_SPREAD**2)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _text_log_likelihood(text: list[str], masks: Sequence[Tensor] | Tensor) -> np.ndarray:
    """Return log P(words that survive | y), up to a constant in y; only sentiment words speak of y."""
    table = _level_log_probabilities()
    result = np.zeros((len(text), len(GRID)))
    words = [line.split() for line in text]
    for row, kept in enumerate(_rows(masks, [len(line) + 2 for line in words], "text")):
        survivors = [word for word, survives in zip(words[row], kept[1:-1], strict=True) if survives]
        levels = [LEVEL_OF_WORD[word] for word in survivors if word in LEVEL_OF_WORD]
        result[row] = table[:, levels].sum(axis=1)
    return result


def _rows(masks: Sequence[Tensor] | Tensor, lengths: list[int], modality: str) -> Iterator[np.ndarray]:
    """Cut each mask to the real length of its row."""
    for row, (mask, length) in enumerate(zip(masks, lengths, strict=True)):
        if len(mask) < length:
            raise ValueError(
                f"posterior expected a mask of {modality} of at least {length} in row {row}, got {len(mask)}; "
                "pass the keep mask of the same split."
            )
        yield np.asarray(mask[:length], dtype=bool)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities, where=probabilities > 0, out=np.full_like(probabilities, -np.inf))


# --- what the splits are drawn from ---


def _scale(counts: Sequence[int], size: int) -> list[int]:
    """Scale class counts to a sum by largest remainders."""
    exact = np.array(counts) * size / sum(counts)
    scaled = np.floor(exact).astype(int)
    scaled[np.argsort(scaled - exact, kind="stable")[: size - scaled.sum()]] += 1
    return scaled.tolist()


def _part_by_sign(scaled: list[int], classes: Sequence[int], signs: Sequence[int]) -> list[int]:
    """Part class 0 of scaled class counts into negative, zero and positive labels."""
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
    levels = np.exp(_level_log_probabilities()[np.abs(GRID - label).argmin()])
    words = []
    for _ in range(num_words):
        is_sentiment = rng.random() < SENTIMENT_WORD
        words.append(rng.choice(LEVELS[rng.choice(len(LEVELS), p=levels)].split() if is_sentiment else topic))
    return " ".join(words)


def _draw_frames(
    rng: np.random.Generator, labels: np.ndarray, u: np.ndarray, loadings: np.ndarray, max_length: int
) -> tuple[Tensor, Tensor]:
    """Return frames `(n, L, D)`, zero past each row's length, and the lengths, 40 % of the maximum on average."""
    lengths = np.ceil(rng.beta(2, 3, len(labels)) * max_length).astype(np.int64)
    centre = labels[:, None] * u + rng.standard_normal((len(labels), loadings.shape[1])) @ loadings.T
    noise = rng.standard_normal((len(labels), max_length, len(u)), dtype=np.float32)
    real = np.arange(max_length) < lengths[:, None]
    frames = (noise + centre[:, None].astype(np.float32)) * real[..., None]
    return torch.from_numpy(frames), torch.from_numpy(lengths)


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def _tokenizer() -> PreTrainedTokenizerFast:
    specials = list(SPECIAL_TOKENS.values())
    topic_words = sorted({word for topic in TOPICS for word in topic.split()})
    vocabulary = {word: i for i, word in enumerate([*specials, *LEVEL_OF_WORD, *topic_words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a word, not a password
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
