"""TransMModel: TransM (Wang et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.transm import TransM
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class TransMModel(ComparedModel):
    """Score sentiment by :class:`baselines.transm.TransM`; text is translated, or else the first modality by name."""

    label = "TransM"
    core_class = TransM
    needs = "input"
    exports = False  # torch.export fixes the length that a recurrent layer reads
    recipe: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3, "batch_size": 32, "weight_decay": 0.0}
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "gru_dim": 6, "depth": 1, "decoder_depth": 1, "num_heads": 2}

    def core_settings(self) -> dict[str, Any]:
        return {"dominant": self.dominant()}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        return self.core.losses(parts.output, parts.complete, batch.masks)
