"""CorrKD: a student of incomplete input learns from a teacher of complete input how samples and categories relate."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.crossmodal import CrossmodalEncoder
from baselines.head import Head
from baselines.masked import check_lengths, masked_frames, mean_frames, mean_over

MARGIN = 1.2  # eta, the distance that the student keeps from what the teacher makes of other samples


class CorrKdOutput(NamedTuple):
    """Output of the student or the teacher of :class:`CorrKD`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        joint: H, ``(B, M D)``, the mean frame of every modality.
        present: bool ``(B,)``, False where a sample has nothing; no loss reads it there.
    """

    prediction: Tensor
    joint: Tensor
    present: Tensor


class CorrKD(nn.Module):
    """Correlation-decoupled knowledge distillation (Li et al., CVPR 2024).

    Teacher and student are two networks of one shape: a convolution and a transformer per modality, whose mean frames,
    concatenated, are the joint representation H, and a linear layer. The student predicts. Three losses draw it to the
    teacher t, which is constant in them. Samples: ``D(H_i, H_i^t)^2 + max(0, eta - D(H_i, H_j^t))^2`` with the
    Euclidean distance D, averaged over the pairs i, j of different samples. Categories: with the prototype of a
    category, the mean H of its samples in the batch, the absolute difference of ``cos(H_i, prototype)`` from
    ``cos(H_i^t, prototype^t)``, averaged over samples and categories. Responses: the probability of a sample's
    category, and those of the others, are two responses u. For each, the Jensen-Shannon bound of the mutual information
    I(u, u^t), which a small network V estimates, is maximized:

        I = E[-softplus(-V(u_i, u_i^t))] - E[softplus(V(u_i, u_j^t))]

    We had the paper's abstract and descriptions of its parts; no code is public. D = 40 and the unweighted sum of the
    losses are the paper's. Settled here are kernels of 3 frames, two transformer layers with 10 heads, the margin, V
    with one hidden layer of 64 units, and means over pairs. The paper classifies. For a single score s, the two
    categories are above and below 0 and have the probabilities sigmoid(s) and sigmoid(-s); a sample of neither enters
    the loss of samples only. Categories without samples in the batch have no prototype.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dim: D, width of a frame after the convolution.
        depth: layers of every transformer.
        num_heads: attention heads, a divisor of ``dim``.

    Example:
        >>> core = CorrKD({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).joint.shape
        torch.Size([2, 80])
    """

    training_parts = ("teacher", "estimators")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dim: int = 40,
        depth: int = 2,
        num_heads: int = 10,
    ) -> None:
        super().__init__()
        self.max_lengths = {name: max_lengths[name] for name in sorted(input_dims)}
        self.num_categories = max(num_outputs, 2)
        self.student, self.teacher = (Network(input_dims, num_outputs, dim, depth, num_heads) for _ in range(2))
        sizes = {"target": 1, "others": self.num_categories - 1}
        self.estimators = nn.ModuleDict({name: MutualInformation(size) for name, size in sizes.items()})

    @property
    def head(self) -> nn.Module:
        """The layer that predicts."""
        return self.student.head

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> CorrKdOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("CorrKD", features, self.max_lengths)
        found: CorrKdOutput = self.student(features, masks)
        return found

    def teach(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> CorrKdOutput:
        """Return what the teacher makes of the complete input."""
        found: CorrKdOutput = self.teacher(features, masks)
        return found

    def losses(self, output: CorrKdOutput, taught: CorrKdOutput, groups: Tensor) -> dict[str, Tensor]:
        """Return the three losses that draw the student to the teacher.

        Args:
            output: the student's, of the incomplete input.
            taught: the teacher's, of the complete input of the same samples.
            groups: long ``(B,)``, a sample's category: its class, or 1 and 0 for scores above and below 0; -1 for none.
        """
        present = output.present & taught.present
        grouped = present & (groups >= 0)
        with torch.autocast(groups.device.type, enabled=False):
            joint, target = output.joint, taught.joint.detach()
            answers, goals = (self._respond(x, groups) for x in (output.prediction, taught.prediction.detach()))
            shared = [estimate(answers[name], goals[name], grouped) for name, estimate in self.estimators.items()]
            return {
                "samples": contrast(joint, target, present),
                "categories": self._compare(joint, target, groups, grouped),
                "responses": -torch.stack(shared).sum(),
            }

    def _compare(self, joint: Tensor, target: Tensor, groups: Tensor, chosen: Tensor) -> Tensor:
        members = (groups[:, None] == torch.arange(self.num_categories, device=groups.device)) & chosen[:, None]
        shares = members.to(joint.dtype) / members.sum(0).clamp(min=1)
        student, teacher = (F.cosine_similarity(x[:, None], shares.mT @ x, dim=-1) for x in (joint, target))
        return mean_over((student - teacher).abs(), chosen[:, None] & members.any(0))

    def _respond(self, prediction: Tensor, groups: Tensor) -> dict[str, Tensor]:
        """Return the probability of each sample's category, ``(B, 1)``, and of the others, ``(B, K - 1)``."""
        logits = F.pad(prediction, (1, 0)) if prediction.shape[1] == 1 else prediction
        own = groups.clamp(min=0)[:, None]
        rest = torch.arange(self.num_categories - 1, device=groups.device)
        probabilities = logits.softmax(-1)
        return {"target": probabilities.gather(1, own), "others": probabilities.gather(1, rest + (rest >= own))}


class Network(nn.Module):
    """A convolution and a transformer per modality, and a linear layer on their concatenated mean frames."""

    def __init__(self, input_dims: Mapping[str, int], num_outputs: int, dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.convolutions = nn.ModuleDict({name: nn.Conv1d(input_dims[name], dim, 3, padding=1) for name in names})
        self.encoders = nn.ModuleDict({name: CrossmodalEncoder(dim, depth, num_heads) for name in names})
        self.head = Head(len(names) * dim, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None) -> CorrKdOutput:
        pooled, here = [], []
        for name, convolve in self.convolutions.items():
            x, mask = masked_frames(features, masks, name)
            pooled.append(mean_frames(self.encoders[name](convolve(x.mT).mT, mask), mask))
            here.append(mask.any(1))
        joint = torch.cat(pooled, dim=-1).to(self.head.weight.dtype)  # exact under autocast, as the losses are
        return CorrKdOutput(self.head(joint), joint, torch.stack(here).any(0))


class MutualInformation(nn.Module):
    """The Jensen-Shannon bound of the mutual information of two vectors (Hjelm et al., ICLR 2019), to be maximized."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(2 * dim, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor, y: Tensor, chosen: Tensor) -> Tensor:
        """Estimate it from the chosen rows of ``(B, D)``; rows of different samples are pairs by chance."""
        size = len(x)
        pairs = torch.cat([x[:, None].expand(-1, size, -1), y.expand(size, -1, -1)], dim=-1)
        scores, both = self.score(pairs).squeeze(-1), chosen[:, None] & chosen
        own = torch.eye(size, dtype=torch.bool, device=x.device)
        return -mean_over(F.softplus(-scores), both & own) - mean_over(F.softplus(scores), both & ~own)


def contrast(joint: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """Return the loss of samples: near the teacher's representation of the same one, apart from those of others."""
    distances = torch.linalg.vector_norm(joint[:, None] - target, dim=-1)  # unlike a root, with a gradient at 0
    others = ~torch.eye(len(joint), dtype=torch.bool, device=joint.device) & present[:, None] & present
    near, apart = distances.diagonal().square(), (MARGIN - distances).relu().square()
    return mean_over(near, present) + mean_over(apart, others)
