"""StatisticsSVM: a support vector machine on statistics of every feature, trained on complete clips."""

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
    """Mean, standard deviation, least and largest value of every feature in every quarter of a clip.

    Frames that were dropped are interpolated, as for the other models; a modality without any is zeros, its mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.machine: Pipeline = make_pipeline(StandardScaler(), SVC(C=PENALTY))

    def fit(self, inputs: Inputs, labels: Tensor) -> None:
        """Train on clips with all frames."""
        self.machine.fit(statistics(inputs), labels.numpy())

    def forward(self, inputs: Inputs) -> Tensor:
        """Return votes as logits ``(B, 27)``; actions that were not trained on get the least."""
        votes = torch.full((len(inputs.values[MODALITIES[0]]), NUM_ACTIONS), -torch.inf)
        votes[:, self.machine.classes_] = torch.from_numpy(self.machine.decision_function(statistics(inputs))).float()
        return votes


def statistics(inputs: Inputs) -> Tensor:
    """Return the features of the machine, ``(B, 4 statistics x 4 quarters x 66)``."""
    found = []
    for name in MODALITIES:
        for part in inputs.values[name].tensor_split(PARTS, dim=1):
            found += [part.mean(1), part.std(1), part.amin(1), part.amax(1)]
    return torch.cat(found, 1).double()
