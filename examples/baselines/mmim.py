"""MMIM: lower bounds of mutual information, between modalities and between each of them and what is fused."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.head import Head
from baselines.masked import check_lengths, first, masked_frames, mean_over
from baselines.recurrent import FinalState

WEIGHTS = {"likelihood": 0.1, "entropy": 0.1, "contrast": 0.1}  # of the losses: beta, beta, alpha
RIDGE = 1e-4  # added to variances, so that equal vectors have an entropy


class MmimParts(NamedTuple):
    """What training compares; mappings are by modality.

    Attributes:
        summaries: h_m, ``(B, D_m)``; zeros where a sample lacks the modality.
        fused: Z, ``(B, hidden_dim)``.
        present: bool ``(B,)``, False where a sample lacks the modality; no loss reads it there.
    """

    summaries: dict[str, Tensor]
    fused: Tensor
    present: dict[str, Tensor]


class MmimOutput(NamedTuple):
    """Output of :class:`MMIM`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        parts: only in training.
    """

    prediction: Tensor
    parts: MmimParts | None = None


class MMIM(nn.Module):
    """Multimodal InfoMax (Han et al., EMNLP 2021), 0.28 M parameters on MOSI.

    Each modality is summed up in a vector h_m: text by the first state of its encoder, others by the final state of an
    LSTM and a linear layer. Two layers fuse them in Z, which is scored. Two bounds of mutual information are maximized.
    Barber-Agakov: I(X; Y) >= E[log q(y|x)] + H(Y), where x is the dominant modality and y each of the others, q is a
    normal distribution whose mean and variance are MLPs of x, and Y is a mixture of one normal distribution per
    polarity, so that H(Y) is a constant plus half the mean of log det(covariance). Covariances are those of this batch
    and of a memory. Contrastive predictive coding: a linear layer predicts each h_m from Z, and has to tell the
    sample's own h_m from those of the batch by their cosine.

    What the paper leaves open is taken from the authors' code: sizes, loss weights, Xavier's initialization, and that
    the entropy is that of a fixed random projection of y, a quarter as wide, through tanh. Three things differ from
    that code. It takes turns by epoch: q is fitted, then all else with q fixed. Both maximize the same likelihood, so
    one step does both here. It leaves the variance out of the normalization of q, so that a large one costs nothing;
    here it counts, and its logarithm passes the tanh that the code has an option for and does not apply. It picks the
    Z of a batch for each h_m; here each Z picks the h_m, as in contrastive predictive coding (van den Oord et al.).

    Args:
        input_dims: features per frame, for each modality. Of "text" the first frame is read, others go through LSTMs.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes. The mixture has a component per class, or two for a score.
        dominant: the modality that the others are predicted from.
        dim: width of an LSTM and of its summary.
        hidden_dim: width of Z.
        dropout: of the summaries before fusion.
        memory: samples of earlier batches that the entropy is estimated with; the paper's memory holds one batch.

    Example:
        >>> core = MMIM({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dominant="text")
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ("predictors", "entropies", "contrasts")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dominant: str,
        dim: int = 16,
        hidden_dim: int = 128,
        dropout: float = 0.1,
        memory: int = 32,
    ) -> None:
        super().__init__()
        self.names = names = sorted(input_dims)
        self.dominant = dominant
        self.max_lengths = {name: max_lengths[name] for name in names}
        widths = {name: input_dims[name] if name == "text" else dim for name in names}
        others = [name for name in names if name != dominant]
        self.encoders = nn.ModuleDict({name: FinalState(input_dims[name], dim) for name in names if name != "text"})
        self.predictors = nn.ModuleDict({name: Predictor(widths[dominant], widths[name]) for name in others})
        self.entropies = nn.ModuleDict(
            {name: MixtureEntropy(widths[name], max(num_outputs, 2), memory) for name in others}
        )
        self.contrasts = nn.ModuleDict({name: nn.Linear(hidden_dim, widths[name]) for name in names})
        self.fusion = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(sum(widths.values()), hidden_dim),
            nn.Tanh(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.Tanh(),
        )
        self.head = Head(hidden_dim, num_outputs)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> MmimOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("MMIM", features, self.max_lengths)
        summaries, present = {}, {}
        for name in self.names:
            x, mask = masked_frames(features, masks, name)
            summaries[name] = first(x, mask) if name == "text" else self.encoders[name](x, mask)
            present[name] = mask.any(1)
        fused = self.fusion(torch.cat(list(summaries.values()), dim=-1))
        return MmimOutput(self.head(fused), MmimParts(summaries, fused, present) if self.training else None)

    def losses(self, parts: MmimParts, groups: Tensor) -> dict[str, Tensor]:
        """Return the negative bounds, each times its weight, and remember the batch for later entropies.

        Args:
            parts: of the incomplete input, in training.
            groups: long ``(B,)``, the component of the mixture that a sample belongs to, its class or 1 and 0 for the
                two polarities; -1 for none.
        """
        summaries, fused, present = parts
        given, there = summaries[self.dominant], present[self.dominant]
        zero = fused.new_zeros(())
        likelihoods, entropies = [zero], [zero]
        for name, predict in self.predictors.items():
            likelihoods.append(mean_over(predict(given, summaries[name]), there & present[name]))
            entropies.append(self.entropies[name](summaries[name], torch.where(present[name], groups, -1)))
        contrasts = [
            contrast(predict(fused), summaries[name], present[name]) for name, predict in self.contrasts.items()
        ]
        found = {
            "likelihood": -torch.stack(likelihoods).sum(),
            "entropy": -torch.stack(entropies).sum(),
            "contrast": torch.stack(contrasts).sum(),
        }
        return {name: WEIGHTS[name] * loss for name, loss in found.items()}


class Predictor(nn.Module):
    """q(y|x): a normal distribution with independent units, whose means and log-variances are MLPs of x."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.log_variance = nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.Tanh())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log q(y|x) up to a constant, ``(B,)``."""
        log_variance = self.log_variance(x)
        distances = (y - self.mean(x)).square() * (-log_variance).exp()
        return -0.5 * (log_variance + distances).sum(-1)


class MixtureEntropy(nn.Module):
    """Entropy, up to a constant, of a mixture of normal distributions, estimated with a memory of earlier batches.

    The memory is in the state dict, and so is the projection, which is random and never learned.
    """

    projection: Tensor
    memory: Tensor
    memory_groups: Tensor

    def __init__(self, dim: int, num_components: int, memory: int) -> None:
        super().__init__()
        self.num_components = num_components
        width = max(dim // 4, 1)
        self.register_buffer("projection", nn.init.xavier_normal_(torch.empty(dim, width)))
        self.register_buffer("memory", torch.zeros(memory, width))
        self.register_buffer("memory_groups", torch.full((memory,), -1))

    def forward(self, y: Tensor, groups: Tensor) -> Tensor:
        """Return half the mean log det(covariance) of the components that have vectors, and remember the batch.

        Args:
            y: ``(B, dim)``.
            groups: long ``(B,)``, the component of each vector; -1 for none.
        """
        with torch.autocast(y.device.type, enabled=False):
            y = y.to(torch.promote_types(y.dtype, torch.float32))  # there is no determinant in bf16
            rows = torch.cat([(y @ self.projection.to(y.dtype)).tanh(), self.memory.to(y.dtype)])
            groups = torch.cat([groups, self.memory_groups])
            self.memory.copy_(rows[: len(self.memory)].detach())
            self.memory_groups.copy_(groups[: len(self.memory)])
            chosen = groups == torch.arange(self.num_components, device=groups.device)[:, None]
            return 0.5 * mean_over(torch.stack([log_volume(rows, own) for own in chosen]), chosen.any(1))


def log_volume(rows: Tensor, chosen: Tensor) -> Tensor:
    """Return log det of the covariance of the chosen rows of ``(n, k)``, with a ridge."""
    count = chosen.sum().clamp(min=1)
    mean = torch.where(chosen[:, None], rows, 0).sum(0) / count
    centered = torch.where(chosen[:, None], rows - mean, 0)
    ridge = RIDGE * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    return torch.logdet(centered.mT @ centered / count + ridge)


def contrast(guesses: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """Return the cross-entropy of telling which target belongs to a guess, by cosines; ``(B, D)`` both.

    It is averaged over the samples in ``present``, bool ``(B,)``, whose targets alone are compared.
    """
    cosines = F.normalize(guesses, dim=-1) @ F.normalize(targets, dim=-1).mT
    cosines = cosines.masked_fill(~present, torch.finfo(cosines.dtype).min)
    own = torch.arange(len(targets), device=targets.device)
    return mean_over(F.cross_entropy(cosines, own, reduction="none"), present)
