"""The cells of a study: one training per variant (a row of its tables) and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from derl.evaluate.protocol import BEST_POSSIBLE
from derl.model.compared import ComparedModel
from derl.model.registry import MODELS
from derl.train.options import Options, fill_in
from derl.train.recipes import RECIPES
from derl.train.setup import PRESETS
from modx.missing import PATTERNS
from modx.reconstruct import LEVELS

FILLED_IN = {name for recipe in RECIPES.values() for name in recipe}


@dataclass(frozen=True)
class Variant:
    """A row of a table: options that differ from the study's.

    Example:
        >>> Variant({"recipe": "robust"}).cell(1).key
        'recipe=robust,seed=1'
    """

    overrides: Mapping[str, Any]

    def cell(self, seed: int) -> "Cell":
        """Return the variant's cell for a seed."""
        return Cell(tuple(sorted((name, _frozen(value)) for name, value in self.overrides.items())), seed)


@dataclass(frozen=True)
class Cell:
    """One training, named ``key`` in files."""

    overrides: tuple[tuple[str, Any], ...]
    seed: int

    @property
    def key(self) -> str:
        parts = [f"{name}={_short(value)}" for name, value in self.overrides]
        return ",".join([*parts, f"seed={self.seed}"])

    @property
    def is_best_possible(self) -> bool:
        """Whether the cell evaluates the best possible predictor instead of training."""
        return dict(self.overrides).get("model") == BEST_POSSIBLE

    def options(self, study: Options) -> Options:
        """Return the options of the training."""
        changes = {name: list(value) if isinstance(value, tuple) else value for name, value in self.overrides}
        known = {field.name for field in fields(Options)}
        assert changes.keys() <= known, changes.keys() - known
        if "recipe" in changes:  # reset what the study's recipe has set
            changes = dict.fromkeys(FILLED_IN) | changes
        return fill_in(replace(study, **changes, seed=self.seed))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


DERL = "DERL, paper's recipe"
ROBUST = "DERL, robust recipe"

PAPER = Variant({"recipe": "paper"})


def methods(models: Sequence[str]) -> dict[str, Variant]:
    """Return the rows of a table of methods: every one of the models with every recipe."""
    return {
        f"{MODELS[name].label}, {called} recipe": Variant(
            {"recipe": recipe} | ({} if name == "derl" else {"model": name})
        )
        for name in models
        for recipe, called in (("paper", "paper's"), ("robust", "robust"))
    }


UNASKED = [name for name, model in MODELS.items() if not issubclass(model, ComparedModel)]  # the others would take days
METHODS = methods(UNASKED)
ABLATIONS = {  # in the order of the paper's Tables 3 and 4
    "without HED": Variant({"recipe": "paper", "disentangler": "mlp"}),
    "without MLCR": Variant({"recipe": "paper", "reconstruction_levels": ()}),
    **{
        f"{level} level alone (L_rec^{number})": Variant({"recipe": "paper", "reconstruction_levels": (level,)})
        for number, level in enumerate(LEVELS, start=1)
    },
    "without MRF": Variant({"recipe": "paper", "fusion": "mean"}),
    "DERL": PAPER,
}
EXPERTS = (1, 2, 3, 4, 5)
SMOKE_EXPERTS = (1, 3)
ROBUST_MIXTURE = RECIPES["robust"]["train_pattern"]
TRAINED_AT = {f"r = {rate}": Variant({"recipe": "paper", "train_rate": rate}) for rate in (0.1, 0.3, 0.5, 0.7, 0.9)}
OPTIONS = {
    DERL: PAPER,
    "  + targets detached": Variant({"recipe": "paper", "detach_target": True}),
    "  + squared cosine in eq. 5": Variant({"recipe": "paper", "orthogonality_penalty": "square"}),
    "  + loss weights 0.1 and 0.1": Variant(
        {"recipe": "paper", "orthogonality_weight": 0.1, "reconstruction_weight": 0.1}
    ),
    "  + no 1/3 in eq. 12": Variant({"recipe": "paper", "reconstruction_weight": 3.0}),
    "  + standardized features": Variant({"recipe": "paper", "standardize": True}),
    "  + averaged weights": Variant({"recipe": "paper", "average_decay": 0.98}),
    "  + every sample corrupted": Variant({"recipe": "paper", "corrupted_share": 1.0}),
    "  + consistency": Variant({"recipe": "paper", "consistency_weight": 1.0}),
    "  + loss of the complete input": Variant({"recipe": "paper", "complete_weight": 1.0}),
    ROBUST: Variant({"recipe": "robust"}),
    "  - averaged weights": Variant({"recipe": "robust", "average_decay": 0.0}),
    "  - every sample corrupted": Variant({"recipe": "robust", "corrupted_share": 0.5}),
    "  - consistency": Variant({"recipe": "robust", "consistency_weight": 0.0}),
    "  - loss of the complete input": Variant({"recipe": "robust", "complete_weight": 0.0}),
    "  - whole modalities": Variant({"recipe": "robust", "train_pattern": ROBUST_MIXTURE.replace("+modalities", "")}),
    "  - all patterns but frames": Variant({"recipe": "robust", "train_pattern": "frames"}),
}


def all_patterns() -> str:
    """Return the mixture of all registered patterns."""
    return "+".join(PATTERNS)


def trained_on() -> dict[str, Variant]:
    """Return every registered pattern, the robust recipe's mixture, and the mixture of all patterns."""
    return {
        pattern: PAPER if pattern == "frames" else Variant({"recipe": "paper", "train_pattern": pattern})
        for pattern in (*PATTERNS, ROBUST_MIXTURE, all_patterns())
    }


def experts(preset: str) -> dict[tuple[int, int], Variant]:
    """Return variants of private x shared experts (figure 3); the preset's own numbers give DERL itself."""
    config = PRESETS[preset]()
    own = (config.num_private_experts, config.num_shared_experts)
    counts = SMOKE_EXPERTS if preset == "smoke" else EXPERTS
    return {
        pair: PAPER
        if pair == own
        else Variant({"recipe": "paper", "num_private_experts": pair[0], "num_shared_experts": pair[1]})
        for pair in product(counts, counts)
    }
