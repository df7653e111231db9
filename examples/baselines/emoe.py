"""EMOE: an expert per modality, a router that weights them for every sample, and distillation from the experts."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.crossmodal import CrossmodalEncoder
from baselines.head import Head
from baselines.masked import Windows, check_lengths, last, masked_frames, mean_over
from baselines.residual import Residual

WEIGHTS = {"experts": 1.0, "balance": 0.1, "importance": 0.01, "distillation": 0.1}  # of the losses
TEMPERATURE = 0.1  # of the router's softmax
FLOOR = 0.1  # added to an expert's distance from the label before it is inverted
DROPOUT = {"text": 0.3, "audio": 0.2}  # of attention weights
TEXT_DROPOUT = 0.5


class EmoeParts(NamedTuple):
    """What training compares.

    Attributes:
        fused: the weighted sum of the experts' features after its residual unit, ``(B, D)``.
        own: modality -> the expert's features after its residual unit, ``(B, D)``.
        guesses: modality -> the expert's prediction, ``(B, num_outputs)``.
        present: bool ``(B, M)``, False where a sample lacks the modality.
    """

    fused: Tensor
    own: dict[str, Tensor]
    guesses: dict[str, Tensor]
    present: Tensor


class EmoeOutput(NamedTuple):
    """Output of :class:`EMOE`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        weights: of the modalities in the order of their names, ``(B, M)``; they sum to 1 over those that are present.
        parts: only in training.
    """

    prediction: Tensor
    weights: Tensor
    parts: EmoeParts | None = None


class EMOE(nn.Module):
    """Modality-specific enhanced dynamic emotion experts (Fang et al., CVPR 2025), 207.7 M parameters on MOSI.

    An expert per modality, a convolution and a transformer, gives features h_m and a prediction of its own. The router,
    two layers on all input features of a sample, gives weights w_m that sum to 1; the sum of w_m h_m is scored. Four
    losses join the task's. Experts: the mean of their task losses. Balance: M times the sum of w_m log w_m. Importance:
    the mean of (w_m - d_m)^2, where d_m is proportional to 1 / (e_m + 0.1) and e_m is the squared error of an expert's
    score. Distillation: the mean squared distance of softmax(h) from softmax(sum of w_m h_m), the latter a constant,
    for features after their residual units.

    We had the paper's abstract and the authors' code, from which the rest is taken: sizes, dropout, loss weights,
    temperature, one linear map for all modalities before the transformers, the last frame as summary. The router is
    built as it is there: input features of all modalities, brought to one length by a linear layer over frames,
    flattened, through a hidden layer an eighth as wide. That layer has 94 % of all parameters; ``router_dim`` changes
    it. Left out are three layers that no output reads (0.2 M). The code hides later frames in attention and reads
    padding. Here attention is in both directions, masked frames are zeros before the convolution and in the router,
    and the last real frame is the summary. Absent modalities, which the paper does not have, have weight 0. For
    classes, e_m is the cross-entropy.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality; shorter input is padded by masked frames.
        num_outputs: scores, or classes.
        dim: D, width of a frame after projection.
        depth: layers of every transformer.
        num_heads: attention heads.
        kernel_size: of the convolutions.
        router_dim: hidden units of the router. Default: an eighth of its inputs.

    Example:
        >>> core = EMOE({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dim=4, depth=1, num_heads=2)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).weights.shape
        torch.Size([2, 2])
    """

    training_parts = ("units", "heads")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dim: int = 256,
        depth: int = 4,
        num_heads: int = 8,
        kernel_size: int = 5,
        router_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.names = names = sorted(input_dims)
        self.max_lengths = {name: max_lengths[name] for name in names}
        length = min(self.max_lengths.values())
        num_inputs = length * sum(input_dims.values())

        def each(make: Callable[[str], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({name: make(name) for name in names})

        def encoder(name: str) -> nn.Module:
            rate = DROPOUT.get(name, 0.0)
            return CrossmodalEncoder(dim, depth, num_heads, attention_dropout=rate, input_dropout=0.2)

        self.text_dropout = nn.Dropout(TEXT_DROPOUT)
        self.projections = each(
            lambda name: Windows(input_dims[name], dim, min(kernel_size, max_lengths[name]), bias=False)
        )
        self.common = nn.Linear(dim, dim, bias=False)
        self.encoders = each(encoder)
        self.units = each(lambda name: Residual(dim, dim))
        self.heads = each(lambda name: nn.Linear(dim, num_outputs))
        self.align = nn.ModuleDict(
            {name: nn.Linear(frames, length) for name, frames in self.max_lengths.items() if frames != length}
        )
        self.router = ModalityWeights(num_inputs, router_dim or max(num_inputs // 8, 1), len(names))
        self.unit = Residual(dim, dim)
        self.head = Head(dim, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> EmoeOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("EMOE", features, self.max_lengths)
        inputs, found, here = [], {}, []
        for name, project in self.projections.items():
            x, mask = masked_frames(features, masks, name, self.max_lengths[name])
            inputs.append(self.align[name](x.mT).mT if name in self.align else x)
            x = self.text_dropout(x) if name == "text" else x
            x, frames = project(x, mask)
            found[name] = last(self.encoders[name](self.common(x), frames), frames)
            here.append(mask.any(1))
        present = torch.stack(here, dim=1)
        weights = self.router(torch.cat(inputs, dim=-1).flatten(1), present)
        fused = self.unit(weighted_sum(found, weights))
        prediction = self.head(fused)
        if not self.training:
            return EmoeOutput(prediction, weights)
        own = {name: unit(found[name]) for name, unit in self.units.items()}
        guesses = {name: head(own[name]) for name, head in self.heads.items()}
        return EmoeOutput(prediction, weights, EmoeParts(fused, own, guesses, present))

    def losses(
        self, output: EmoeOutput, errors: Mapping[str, Tensor], distances: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses beside the task's, each times its weight.

        Args:
            output: of the input, in training.
            errors: modality -> the task's loss of the expert's prediction, ``(B,)``.
            distances: modality -> e_m, ``(B,)``, at least 0.
        """
        assert output.parts is not None
        fused, own, _, present = output.parts
        weights, any_present = output.weights, present.any(1)
        experts = [mean_over(errors[name], present[:, index]) for index, name in enumerate(self.names)]
        strengths = torch.stack([1 / (distances[name].detach() + FLOOR) for name in self.names], dim=1) * present
        importance = strengths / strengths.sum(1, keepdim=True).clamp(min=torch.finfo(strengths.dtype).tiny)
        logs = weights.clamp(min=1e-9).log()  # 0 log 0 is 0, without a gradient
        teacher = weighted_sum(own, weights).detach()
        distance = (fused.softmax(-1) - teacher.softmax(-1)).square().mean(-1)
        found = {
            "experts": torch.stack(experts).mean(),
            "balance": len(self.names) * mean_over((weights * logs).sum(1), any_present),
            "importance": mean_over((importance - weights).square().mean(1), any_present),
            "distillation": mean_over(distance, any_present),
        }
        return {name: WEIGHTS[name] * loss for name, loss in found.items()}


class ModalityWeights(nn.Module):
    """Weight the modalities by a hidden layer of length 1 and a softmax over those that are present."""

    def __init__(self, num_inputs: int, hidden: int, num_modalities: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(num_inputs, hidden), nn.Linear(hidden, num_modalities)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Return ``(B, M)`` for inputs ``(B, num_inputs)``; zeros where nothing is present."""
        scores = self.leave(F.normalize(self.enter(x), dim=1).relu()).float() / TEMPERATURE
        weights = scores.masked_fill(~present, torch.finfo(torch.float32).min).softmax(1)
        return torch.where(present, weights, 0).to(x.dtype)


def weighted_sum(parts: Mapping[str, Tensor], weights: Tensor) -> Tensor:
    """Return the sum of w_m x_m for parts ``(B, D)`` and weights ``(B, M)`` in their order."""
    return torch.einsum("bm,mbd->bd", weights, torch.stack(list(parts.values())))
