"""CorrKdModel: CorrKD (Li et al., CVPR 2024) around the text encoder of the run."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.corrkd import CorrKD
from baselines.masked import mean_over
from derl.model.compared import ComparedModel, CoreParts
from derl.model.training import Batch, Phase


class CorrKdModel(ComparedModel):
    """Score sentiment by the student of :class:`baselines.corrkd.CorrKD`, whose teacher reads the complete input.

    Distillation begins when the teacher has had three epochs. It keeps learning, as the text encoder that both share
    does.
    """

    label = "CorrKD"
    core_class = CorrKD
    needs = "input"
    phases = (Phase("teacher", 3), Phase("distillation"))
    smoke: ClassVar[Mapping[str, Any]] = {"dim": 8, "depth": 1, "num_heads": 2}

    def core_losses(self, parts: CoreParts, batch: Batch) -> dict[str, Tensor]:
        assert parts.complete is not None
        taught, problem = self.core.teach(parts.complete, batch.masks), self.problem
        errors = problem.errors(problem.predict(taught.prediction), batch.labels)
        weight = 0.0 if self.phase == "teacher" else 1.0  # times 0, so that every parameter has a gradient
        terms = self.core.losses(parts.output, taught, problem.groups(batch.labels))
        distilled = {name: weight * term for name, term in terms.items()}
        return {"teacher": mean_over(errors, taught.present)} | distilled
