"""The best possible predictor on the synthetic data: it knows how the data is generated, and sees what is kept.

Frames are exchangeable given (y, z), so the mean of the n kept frames, N(y u, V V' + I / n), is a sufficient statistic.
Symbols are defined in :mod:`derl.data.synthetic`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from derl.data.split import Split
from derl.data.synthetic import (
    CLASS_OF_GRID,
    GRID,
    GROUP_OF_GRID,
    LEVEL_OF_WORD,
    SyntheticMosi,
    group_of,
    level_log_probabilities,
)
from modx.metrics import ConstantInputWarning, sentiment_metrics


def label_posterior(
    synthetic: SyntheticMosi, split_name: str, keep: Mapping[str, Sequence[Tensor] | Tensor]
) -> np.ndarray:
    """Return the probability of every label in ``GRID``, given the kept input.

    The prior is the frequency of each class and sign in the split. No predictor that knows only the generator and these
    frequencies does better on average.

    Args:
        synthetic: the synthetic data.
        split_name: name of the split.
        keep: modality -> bool masks, True where an element is kept: one per row, as ``MissingDataset`` returns them, or
            padded ``(n, L)``. Masks of text include [CLS] and [SEP]. A modality left out of the mapping is missing.

    Returns:
        ``(n, 31)`` float64 probabilities.

    Raises:
        ValueError: A modality is unknown, the number of masks differs from the number of rows, or a mask is shorter
            than its row.
    """
    split = synthetic.splits[split_name]
    log_posterior = np.tile(_log(_prior(split.labels)), (len(split), 1))
    for modality, masks in keep.items():
        if modality not in split.modalities or len(masks) != len(split):
            raise ValueError(
                f"label_posterior expected {len(split)} masks for each of {split.modalities}, got {len(masks)} "
                f"for {modality!r}; pass the keep mask of every row."
            )
        if modality == "text":
            log_posterior += _text_log_likelihood(split.text or [], masks)
        else:
            log_posterior += _frames_log_likelihood(synthetic, split, modality, masks)
    log_posterior -= log_posterior.max(axis=1, keepdims=True)
    probabilities = np.exp(log_posterior)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def best_possible(posterior: np.ndarray, target: Tensor) -> dict[str, Tensor]:
    """Score the best decisions for each metric, given the posterior. No model does better on average.

    The decisions are the posterior median for ``mae``, the mean for ``corr``, the more likely sign for ``acc2`` and
    ``f1``, and the most likely class for ``acc5`` and ``acc7``. (For ``corr`` and ``f1``, no row-by-row decision is
    exactly optimal; these come close.)

    Args:
        posterior: ``(n, 31)`` probabilities of ``GRID``.
        target: ``(n,)`` labels.

    Returns:
        The eight metrics of ``modx.metrics.sentiment_metrics``.
    """
    positive, negative = posterior[:, GRID > 0].sum(1), posterior[:, GRID < 0].sum(1)
    decisions = {
        ("corr",): (posterior * GRID).sum(1),  # equal rows give bitwise equal sums, unlike a matmul
        ("mae",): GRID[(posterior.cumsum(1) < 0.5).sum(1).clip(max=len(GRID) - 1)],
        ("acc2_has0", "f1_has0"): np.where(negative <= 0.5, 1.0, -1.0),
        ("acc2_non0", "f1_non0"): np.where(positive > negative, 1.0, -1.0),
        ("acc5",): _likeliest_class(posterior, 2),
        ("acc7",): _likeliest_class(posterior, 3),
    }
    best = {}
    for names, decision in decisions.items():
        with warnings.catch_warnings():
            if "corr" not in names:  # the correlation of the other decisions is not used
                warnings.simplefilter("ignore", ConstantInputWarning)
            scores = sentiment_metrics(torch.from_numpy(decision), target)
        best |= {name: scores[name] for name in names}
    return {name: best[name] for name in scores}


def _likeliest_class(posterior: np.ndarray, limit: int) -> np.ndarray:
    classes = np.arange(-limit, limit + 1)
    of_class = CLASS_OF_GRID.clip(-limit, limit)[:, None] == classes
    return classes[(posterior @ of_class).argmax(1)].astype(np.float64)


def _frames_log_likelihood(
    synthetic: SyntheticMosi, split: Split, modality: str, masks: Sequence[Tensor] | Tensor
) -> np.ndarray:
    """Return log N(mean; y u, V V' + I / n) for every y of the grid, up to a constant in y; 0 where n = 0."""
    u, loadings = synthetic.directions[modality], synthetic.loadings[modality]
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


def _prior(labels: Tensor) -> np.ndarray:
    """Return P(y) over the grid: frequencies of the labels' groups, uniform within a group."""
    groups = group_of(labels.numpy())
    return np.array([(groups == group).mean() / (group == GROUP_OF_GRID).sum() for group in GROUP_OF_GRID])


def _text_log_likelihood(text: list[str], masks: Sequence[Tensor] | Tensor) -> np.ndarray:
    """Return log P(kept words | y), up to a constant in y; only sentiment words depend on y."""
    table = level_log_probabilities()
    result = np.zeros((len(text), len(GRID)))
    words = [line.split() for line in text]
    for row, kept in enumerate(_rows(masks, [len(line) + 2 for line in words], "text")):
        survivors = [word for word, survives in zip(words[row], kept[1:-1], strict=True) if survives]
        levels = [LEVEL_OF_WORD[word] for word in survivors if word in LEVEL_OF_WORD]
        result[row] = table[:, levels].sum(axis=1)
    return result


def _rows(masks: Sequence[Tensor] | Tensor, lengths: list[int], modality: str) -> Iterator[np.ndarray]:
    """Truncate each mask to the real length of its row."""
    for row, (mask, length) in enumerate(zip(masks, lengths, strict=True)):
        if len(mask) < length:
            raise ValueError(
                f"label_posterior expected a mask of {modality} of at least {length} in row {row}, got {len(mask)}; "
                "pass the keep mask of the same split."
            )
        yield np.asarray(mask[:length], dtype=bool)


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(probabilities, where=probabilities > 0, out=np.full_like(probabilities, -np.inf))
