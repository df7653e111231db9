"""MctnModel: MCTN (Pham et al., AAAI 2019) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.mctn import MCTN
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class MctnModel(ComparedModel):
    """Score sentiment by :class:`baselines.mctn.MCTN` from text, or else the first modality by name."""

    label = "MCTN"
    core_class = MCTN
    needs = "input"
    exports = False  # torch.export fixes the length that a recurrent layer reads
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 1e-4,
        "batch_size": 32,
        "weight_decay": 0.0,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8}

    def core_settings(self) -> dict[str, Any]:
        return {"dominant": self.dominant()}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        return self.core.losses(parts.output, parts.complete, batch.masks)
