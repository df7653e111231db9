"""The allowed values of every field of DerlConfig."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from transformers import PreTrainedConfig

from derl.data.absence import PARTLY_MISSING
from derl.model.problem import PROBLEMS
from modx._modalities import is_name
from modx.losses import PENALTIES
from modx.model import DROPPED
from modx.reconstruct import LEVELS

Rule = tuple[str, Callable[[Any], bool]]


def check(config: Any) -> None:
    """Check every field against its rule.

    Raises:
        ValueError: A field has a value that is not allowed.
    """
    for field, (what, fits) in RULES.items():
        if not fits(getattr(config, field)):
            raise ValueError(
                f"DerlConfig expected {field} to be {what}, got {getattr(config, field)!r}; leave it out "
                "to use the paper's value."
            )


def _is_int(value: Any, least: int = 0) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_weight(value: Any) -> bool:
    return _is_number(value) and 0 <= value < math.inf


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and all(fits(part) for part in value)


def _are_names(value: Any) -> bool:
    return _is_list(value, is_name) and 0 < len(set(value)) == len(value)


def _are_sizes(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and _is_list(list(value.values()), lambda size: _is_int(size, 1)))


def _one_of(*choices: Any) -> Rule:
    return f"one of {choices}", lambda value: isinstance(value, type(choices[0])) and value in choices


def _at_least(least: int) -> Rule:
    return f"an int >= {least}", lambda value: _is_int(value, least)


_SIZES: Rule = ("a dict of ints >= 1 by modality, or None", _are_sizes)
_WEIGHT: Rule = ("a finite number >= 0", _is_weight)
RULES: dict[str, Rule] = {
    "modalities": (
        "a list of distinct names, at least one, none with a '.' or of an attribute of torch.nn.ModuleDict",
        _are_names,
    ),
    "input_dims": _SIZES,
    "max_lengths": _SIZES,
    "typical_lengths": _SIZES,
    "text_config": (
        "a configuration, its dict, or None",
        lambda value: isinstance(value, (PreTrainedConfig, dict, type(None))),
    ),
    "unk_token_id": _at_least(0),
    "special_token_ids": ("a list of ints >= 0", lambda value: _is_list(value, _is_int)),
    "dim": _at_least(1),
    "num_tokens": _at_least(1),
    "encoder_depth": _at_least(1),
    "fusion_depth": _at_least(1),
    "num_heads": _at_least(1),
    "head_dim": _at_least(1),
    "ffn_dim": _at_least(1),
    "num_private_experts": _at_least(0),
    "num_shared_experts": _at_least(0),
    "expert_dim": _at_least(1),
    "disentangler": _one_of("experts", "mlp"),
    "reconstruction_levels": (f"a list out of {LEVELS}", lambda value: _is_list(value, LEVELS.__contains__)),
    "reconstructor_dim": _at_least(1),
    "fusion": _one_of("router", "mean"),
    "router_dim": _at_least(1),
    "sentiment": _one_of(False, True),
    "problem_type": _one_of(*PROBLEMS),
    "task_loss": _one_of("mse", "mae"),
    "orthogonality_weight": _WEIGHT,
    "reconstruction_weight": _WEIGHT,
    "orthogonality_penalty": _one_of(*PENALTIES),
    "detach_target": _one_of(False, True),
    "consistency_weight": _WEIGHT,
    "complete_weight": _WEIGHT,
    "unimodal_weight": _WEIGHT,
    "dropped_modality": _one_of(*DROPPED),
    "partly_missing": _one_of(*PARTLY_MISSING),
    "class_shares": (
        "a list of numbers above 0, or None",
        lambda value: value is None or _is_list(value, lambda share: _is_weight(share) and share > 0),
    ),
    "core": (
        "a dict by argument, or None",
        lambda value: value is None or (isinstance(value, dict) and all(isinstance(name, str) for name in value)),
    ),
    "mean_label": ("a finite number", lambda value: _is_number(value) and math.isfinite(value)),
}
