"""MmimModel: MMIM (Han et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.mmim import MMIM
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class MmimModel(ComparedModel):
    """Score sentiment by :class:`baselines.mmim.MMIM`; text, or else the first by name, predicts the others."""

    label = "MMIM"
    core_class = MMIM
    exports = False  # torch.export fixes the length that a recurrent layer reads
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 1e-3,
        "text_learning_rate": 5e-5,
        "batch_size": 32,
        "max_grad_norm": 1.0,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "hidden_dim": 16}

    def core_settings(self) -> dict[str, Any]:
        return {"dominant": self.dominant()}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        return self.core.losses(parts.output.parts, self.problem.groups(batch.labels))
