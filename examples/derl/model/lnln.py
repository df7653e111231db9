"""LnlnModel: LNLN (Zhang et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.lnln import LNLN
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch


class LnlnModel(ComparedModel):
    """Score sentiment by :class:`baselines.lnln.LNLN`; text is the dominant modality, or else the first by name."""

    label = "LNLN"
    core_class = LNLN
    needs = "output"
    recipe: ClassVar[Mapping[str, Any]] = {"corrupt_by": "modality"}
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 16, "num_tokens": 2, "num_heads": 2, "head_dim": 8, "depth": 1}

    def core_settings(self) -> dict[str, Any]:
        return {"dominant": self.dominant()}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        mask = batch.masks[self.core.dominant]
        left = mask if batch.keep is None else mask & batch.keep[self.core.dominant]
        kept = left.sum(1) / mask.sum(1).clamp(min=1)
        present = {name: part.any(1) for name, part in batch.masks.items()}
        return self.core.losses(parts.output, parts.complete_output.tokens, kept, present)
