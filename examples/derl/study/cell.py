"""One training of a study: which options differ from the study's, and its seed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from derl.report.tables import BEST_POSSIBLE
from derl.train.options import Options, fill_in
from derl.train.recipes import RECIPES

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
        """Its training with a seed."""
        return Cell(tuple(sorted((name, _frozen(value)) for name, value in self.overrides.items())), seed)


@dataclass(frozen=True)
class Cell:
    """One training; `key` names it in files."""

    overrides: tuple[tuple[str, Any], ...]
    seed: int

    @property
    def key(self) -> str:
        parts = [f"{name}={_short(value)}" for name, value in self.overrides]
        return ",".join([*parts, f"seed={self.seed}"])

    @property
    def is_best_possible(self) -> bool:
        """Whether it is no training, but the best possible predictor's figures."""
        return dict(self.overrides).get("model") == BEST_POSSIBLE

    def options(self, study: Options) -> Options:
        """The options to train it by."""
        changes = {name: list(value) if isinstance(value, tuple) else value for name, value in self.overrides}
        known = {field.name for field in fields(Options)}
        assert changes.keys() <= known, changes.keys() - known
        if "recipe" in changes:  # what the study's recipe filled in is this recipe's to fill in
            changes = dict.fromkeys(FILLED_IN) | changes
        return fill_in(replace(study, **changes, seed=self.seed))


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    return "+".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
