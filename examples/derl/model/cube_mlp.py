"""CubeMlpModel: CubeMLP (Sun et al., ACM MM 2022) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from baselines.cube_mlp import CubeMLP
from derl.model.compared import ComparedModel


class CubeMlpModel(ComparedModel):
    """Score sentiment by :class:`baselines.cube_mlp.CubeMLP`; it never reads the complete input."""

    label = "CubeMLP"
    core_class = CubeMLP
    exports = False  # torch.export fixes the length that a recurrent layer reads
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 4e-3,
        "text_learning_rate": 4e-5,
        "batch_size": 128,
        "weight_decay": 0.0,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"length": 8, "dim": 8, "sizes": [[4, 8], [3, 6]]}
