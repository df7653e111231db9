"""SelfMmModel: Self-MM (Yu et al.) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.self_mm import SelfMM
from derl.model.compared import ComparedModel, CoreParts
from derl.model.gather import gather_rows
from derl.model.training import Batch


class SelfMmModel(ComparedModel):
    """Score sentiment by :class:`baselines.self_mm.SelfMM`; it never reads the complete input.

    With ``index``, a step in training mode updates the labels and features that the model has of those samples. Without
    it, nothing is stored.
    """

    label = "Self-MM"
    core_class = SelfMM
    exports = False  # torch.export fixes the length that a recurrent layer reads
    remembers = True
    recipe: ClassVar[Mapping[str, Any]] = {
        "task_loss": "mae",
        "learning_rate": 1e-3,
        "text_learning_rate": 5e-5,
        "batch_size": 16,
        "weight_decay": 1e-3,
    }
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8}

    def fit_labels(self, labels: Tensor) -> None:
        """Also make room for what is remembered of each training sample."""
        super().fit_labels(labels)
        self.config.core = (self.config.core or {}) | {"num_samples": len(labels)}
        self.core.forget(len(labels))

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        found, labels = parts.output.parts, self.problem.signed(batch.labels)
        terms: dict[str, Tensor] = self.core.losses(found, labels, batch.index)
        if batch.index is not None:
            self.core.remember(*gather_rows((found, labels, batch.index)))
        return terms
