"""EmoeModel: EMOE (Fang et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.emoe import EMOE
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class EmoeModel(ComparedModel):
    """Score sentiment by :class:`baselines.emoe.EMOE`; it never reads the complete input."""

    label = "EMOE"
    core_class = EMOE
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 1e-4,
        "batch_size": 16,
        "weight_decay": 0.0,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "depth": 1, "num_heads": 2, "router_dim": 8}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        problem = self.problem
        guesses = {name: problem.predict(outputs) for name, outputs in parts.output.parts.guesses.items()}
        errors = {name: problem.errors(guess, batch.labels) for name, guess in guesses.items()}
        distances = {name: problem.squared_errors(guess, batch.labels) for name, guess in guesses.items()}
        return self.core.losses(parts.output, errors, distances)
