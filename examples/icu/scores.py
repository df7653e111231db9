"""How good probabilities are: ranking, precision, calibration."""

import numpy as np
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

METRICS = ("auroc", "auprc", "brier", "ece")
BINS = 15


def score(died: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Return AUROC, AUPRC, Brier score and expected calibration error, in percent."""
    figures = (
        roc_auc_score(died, probability),
        average_precision_score(died, probability),
        brier_score_loss(died, probability),
        calibration_error(died, probability),
    )
    return {name: round(100 * float(figure), 3) for name, figure in zip(METRICS, figures, strict=True)}


def calibration_error(died: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean gap between predicted and observed risk over 15 bins of equal width, weighted by their stays."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, probability - died, minlength=BINS)
    return np.abs(gaps).sum() / len(died)
