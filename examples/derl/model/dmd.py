"""DmdModel: DMD (Li et al., CVPR 2023) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.dmd import DMD
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class DmdModel(ComparedModel):
    """Score sentiment by :class:`baselines.dmd.DMD`; it never reads the complete input."""

    label = "DMD"
    core_class = DMD
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 1e-4,
        "batch_size": 16,
        "weight_decay": 0.0,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "depth": 1, "num_heads": 2}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        problem = self.problem
        return self.core.losses(
            parts.output.parts,
            problem.targets(batch.labels),
            lambda outputs, labels: problem.errors(problem.predict(outputs), labels),
        )
