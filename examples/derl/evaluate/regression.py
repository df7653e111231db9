"""Numbers on any scale."""

import math
import warnings

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, PearsonCorrCoef, R2Score

from derl.evaluate.digits import significant
from derl.evaluate.task import CORR, Column, Metrics, Task, spread

MAE = Column("MAE", ("mae",), "#.4g", higher_is_better=False, unit="label units")


class Regression(Task):
    """Scores that are numbers and nothing else."""

    name = "regression"
    what = "Multimodal regression"
    does = "Predicts a number on the scale of the training labels"
    columns = (
        MAE,
        Column("RMSE", ("rmse",), "#.4g", higher_is_better=False, unit="label units"),
        CORR,
        Column("R2", ("r2",), ".3f", unit=""),
    )
    criterion = card = MAE.form
    compared = (MAE,)
    brief = (MAE, CORR)
    note = (
        "MAE and RMSE: mean absolute and root mean squared error, in the units of the labels. R2: the share of the "
        "labels' variance that is explained. Corr is not defined (-) for constant predictions."
    )

    def measure(self, answers: Tensor, labels: Tensor) -> Metrics:
        """Return ``mae``, ``rmse``, ``corr`` and ``r2``; the last two are NaN if there is nothing to explain.

        Example:
            >>> found = Regression().measure(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
            >>> {name: round(value, 3) for name, value in found.items()}
            {'mae': 0.333, 'rmse': 0.577, 'corr': 0.982, 'r2': 0.5}
        """
        answers, labels = answers.double(), labels.double()
        errors = MetricCollection({"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)})
        found = {"corr": torch.tensor(torch.nan), "r2": torch.tensor(torch.nan)}
        if len(labels) > 1 and bool(labels.min() < labels.max()):
            standard = [
                (part - labels.mean()) / labels.std() for part in (answers, labels)
            ]  # torchmetrics takes a small
            found["r2"] = R2Score()(*standard)  # scale for rounding errors
            if bool(answers.min() < answers.max()):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # of a variance close to 0
                    found["corr"] = PearsonCorrCoef().set_dtype(torch.float64)(*standard)
        metrics = errors(answers, labels) | found
        return {name: metrics[name].item() for name in ("mae", "rmse", "corr", "r2")}

    def constants(self, train_labels: Tensor) -> dict[str, Tensor]:
        """Return the mean and the median of the training labels."""
        return {"training mean": train_labels.mean(), "training median": train_labels.median()}

    def width(self, width: float) -> str:
        """Format a width with three digits, whatever the scale of the labels.

        Example:
            >>> Regression().width(0.00036621), Regression().width(4821.5), Regression().width(math.inf)
            ('0.000366', '4822', 'unbounded')
        """
        return significant(width, width) if math.isfinite(width) else super().width(width)

    def variety(self, answers: Tensor, labels: Tensor) -> dict[str, float | str]:
        return {"spread": spread(answers, labels)}
