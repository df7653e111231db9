"""AlmtModel: ALMT (Zhang et al., EMNLP 2023) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from baselines.almt import ALMT
from derl.model.compared import ComparedModel


class AlmtModel(ComparedModel):
    """Score sentiment by :class:`baselines.almt.ALMT`; text is the dominant modality, or else the first by name."""

    label = "ALMT"
    core_class = ALMT
    smoke: ClassVar[Mapping[str, Any]] = {
        "dim": 16,
        "num_tokens": 2,
        "num_heads": 2,
        "head_dim": 8,
        "depth": 1,
        "fusion_depth": 1,
    }

    def core_settings(self) -> dict[str, Any]:
        return {"dominant": self.dominant()}
