"""MisaModel: MISA (Hazarika et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.misa import MISA
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class MisaModel(ComparedModel):
    """Score sentiment by :class:`baselines.misa.MISA`; it never reads the complete input."""

    label = "MISA"
    core_class = MISA
    exports = False  # torch.export fixes the length that a recurrent layer reads
    recipe: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-4, "weight_decay": 0.0}
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "ffn_dim": 16}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        return self.core.losses(parts.output.parts)
