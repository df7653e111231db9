"""TfrNetModel: TFR-Net (Yuan et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.tfr_net import TFRNet
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch, Phase


class TfrNetModel(ComparedModel):
    """Score sentiment by :class:`baselines.tfr_net.TFRNet`; its first epoch trains without reconstruction."""

    label = "TFR-Net"
    core_class = TFRNet
    needs = "input"
    exports = False  # torch.export fixes the length that a recurrent layer reads
    phases = (Phase("score", 1), Phase("both"))
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 2e-3,
        "text_learning_rate": 1e-5,
        "batch_size": 24,
        "weight_decay": 1e-3,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "depth": 1, "num_heads": 2, "gru_depth": 2, "head_dim": 16}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        missing = {
            name: mask & (False if batch.keep is None else ~batch.keep[name]) for name, mask in batch.masks.items()
        }
        weight = 0.0 if self.phase == "score" else 1.0  # times 0, so that every parameter has a gradient
        terms = self.core.losses(parts.output, parts.complete, missing)
        return {name: weight * term for name, term in terms.items()}
