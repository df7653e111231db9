"""How to train: the paper's way, and a way that withstands whole modalities going missing."""

from typing import Any

LAST = "last"
SELECTION_METRICS = ("mae", "corr", LAST)  # LAST chooses nothing: the last epoch it is

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "train_pattern": "frames",
        "corrupted_share": 0.5,
        "consistency_weight": 0.0,
        "complete_weight": 0.0,
        "average_decay": 0.0,
        "select_rates": [0.5],
        "select_metric": "mae",
    },
    "robust": {
        "train_pattern": "frames+bursts+block+modalities",
        "corrupted_share": 1.0,
        "consistency_weight": 1.0,
        "complete_weight": 1.0,
        "average_decay": 0.98,
        "select_rates": [rate / 10 for rate in range(10)],
        "select_metric": LAST,
    },
}
