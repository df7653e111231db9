"""The allowed values of the options of ``examples/derl_mosi.py``."""

import math
from typing import Any

from derl.train.recipes import LAST, TASKS
from modx.missing import parse_pattern
from modx.reconstruct import LEVELS

LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "learning_rate": 0,
    "text_learning_rate": 0,
    "warmup": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "orthogonality_weight": 0,
    "reconstruction_weight": 0,
    "corrupted_share": 0,
    "train_rate": 0,
    "average_decay": 0,
    "consistency_weight": 0,
    "complete_weight": 0,
    "unimodal_weight": 0,
    "seed": 0,
    "num_private_experts": 0,
    "num_shared_experts": 0,
    "num_workers": 0,
}


def check(options: Any) -> None:
    """Check the values of options, and that they fit together.

    Raises:
        ValueError: One does not; the message names it.
    """
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"--{name} expected a finite number of at least {least}, got {value}")
    for name in (
        "warmup",
        "corrupted_share",
        "train_rate",
        "average_decay",
        *([] if options.select_rates is None else ["select_rates"]),
    ):
        value = getattr(options, name)
        for share in [] if value is None else value if isinstance(value, list) else [value]:
            if not 0 <= share <= 1:
                raise ValueError(f"--{name} expected numbers in [0, 1], got {share}")
    if options.num_private_experts == options.num_shared_experts == 0:
        raise ValueError(
            "--num_private_experts and --num_shared_experts expected at least one expert in all, got 0 and 0"
        )
    if options.task == "classify" and options.data is None and not (options.resume or options.evaluate):
        raise ValueError("--task classify expected --data, got none: the synthetic data has no classes")
    if options.select_metric not in (None, LAST, *TASKS[options.task]):
        raise ValueError(
            f"--select_metric expected one of {', '.join([*TASKS[options.task], LAST])} for --task {options.task}, "
            f"got {options.select_metric}"
        )
    others = sorted(set(options.reconstruction_levels) - set(LEVELS))
    if others:
        raise ValueError(f"--reconstruction_levels expected some of {', '.join(LEVELS)}, got {', '.join(others)}")
    for name in ("train_pattern", "eval_pattern"):
        try:
            parse_pattern("frames" if getattr(options, name) is None else getattr(options, name))
        except ValueError as error:
            raise ValueError(f"--{name}: {error}") from error
