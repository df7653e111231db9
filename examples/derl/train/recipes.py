"""Training recipes, the paper's and two for missing modalities; and how each selects a checkpoint."""

from collections.abc import Sequence
from typing import Any

WORDS = "words"  # --text_encoder words: a small encoder of whole words, trained from the data
LAST = "last"
TASKS = {  # --task -> metrics for checkpoint selection, by the name that is printed; the first is the paper recipe's
    "regress": {"mae": "MAE", "corr": "Corr"},
    "classify": {"f1_macro": "macro F1", "f1_weighted": "weighted F1", "accuracy": "accuracy"},
}
SELECTION_METRICS = {name: shown for metrics in TASKS.values() for name, shown in metrics.items()}

PAPER_EPOCHS = 200  # section 4.2
SHORT_EPOCHS = 15  # for synthetic data and for the robust recipe

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "train_pattern": "frames",
        "corrupted_share": 0.5,
        "consistency_weight": 0.0,
        "complete_weight": 0.0,
        "unimodal_weight": 0.0,
        "average_decay": 0.0,
        "select_rates": [0.5],
        "select_metric": "mae",
        "orthogonality_weight": 1.0,
        "reconstruction_weight": 1.0,
        "max_grad_norm": 0.0,
        "standardize": False,
    },
    "robust": {
        "train_pattern": "frames+bursts+block+modalities",
        "corrupted_share": 1.0,
        "consistency_weight": 1.0,
        "complete_weight": 1.0,
        "unimodal_weight": 0.0,
        "average_decay": 0.98,
        "select_rates": [rate / 10 for rate in range(10)],
        "select_metric": LAST,
        "orthogonality_weight": 0.1,
        "reconstruction_weight": 0.1,
        "max_grad_norm": 1.0,
        "standardize": True,
    },
}
RECIPES["unimodal"] = RECIPES["robust"] | {"unimodal_weight": 1.0}


def describe_selection(metric: str, rates: Sequence[float]) -> str:
    """Name the criterion that selects a checkpoint."""
    if metric == LAST:
        return "no figure: it is the last"
    return f"{SELECTION_METRICS[metric]} on validation at r = {describe_rates(rates)}"


def describe_rates(rates: Sequence[float]) -> str:
    """Format a few rates in full, and many by their start and end."""
    shown = [f"{rate:g}" for rate in rates]
    return ", ".join(shown) if len(shown) < 4 else f"{shown[0]}, {shown[1]} .. {shown[-1]}"
