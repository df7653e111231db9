"""StatisticsSVM: a support vector machine per modality, on statistics of complete clips."""

import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor, nn

from actions.clips import MODALITIES, NUM_ACTIONS
from actions.recordings import Inputs

PARTS = 4  # stretches of a clip
PENALTY = 10.0  # scikit-learn's C


class StatisticsSVM(nn.Module):
    """The mean of what the machines of all present modalities say.

    A machine gets the mean, the standard deviation, the least and the largest value of every feature in every quarter
    of a clip. It is trained on complete clips. Dropped frames are interpolated, as for every model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.machines: dict[str, Pipeline] = {
            name: make_pipeline(StandardScaler(), SVC(C=PENALTY)) for name in MODALITIES
        }

    def fit(self, inputs: Inputs, labels: Tensor) -> None:
        """Train on clips with all frames."""
        for name, machine in self.machines.items():
            machine.fit(statistics(inputs.values[name]).numpy(), labels.numpy())

    def forward(self, inputs: Inputs) -> Tensor:
        """Return votes as logits ``(B, 27)``; actions that were not trained on get none."""
        votes = torch.zeros(len(inputs.values[MODALITIES[0]]), NUM_ACTIONS, dtype=torch.float64)
        for name, machine in self.machines.items():
            present = inputs.observed[name].any(1, keepdim=True)
            found = machine.decision_function(statistics(inputs.values[name]).numpy())
            votes[:, machine.classes_] += present * torch.from_numpy(found)
        return votes


def statistics(values: Tensor) -> Tensor:
    """Turn ``(B, L, C)`` into ``(B, 16 C)``."""
    parts = values.double().tensor_split(PARTS, dim=1)
    return torch.cat([found for x in parts for found in (x.mean(1), x.std(1), x.amin(1), x.amax(1))], 1)
