"""The networks compared. They have one front end: ranks in, NaN where there are none, and one logit per stay out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icu.front import LENGTHS, SUMMARY, Frames, FrontEnd
from icu.stays import Stays
from icu.variables import COLUMNS, HOURS, MODALITIES
from modx import BottleneckEncoder, MissingModalityFusion, TransformerEncoder

DIM = 64
DROPOUT = 0.2
BLOCK = {"num_heads": 4, "head_dim": 16, "ffn_dim": 2 * DIM}
ENCODER = {
    "input_dims": dict.fromkeys(MODALITIES, DIM),
    "dim": DIM,
    "num_tokens": 4,
    "max_lengths": LENGTHS,
    **BLOCK,
}
ORTHOGONALITY_WEIGHT = 0.1


class Answer(NamedTuple):
    """What moves the log-odds of death, ``(B,)``; by modality, for those models that have it; and a loss to add."""

    evidence: Tensor
    unimodal: dict[str, Tensor]
    extra_loss: Tensor | float = 0.0


class Network(nn.Module):
    """A front end, and what a subclass makes of its frames.

    Args:
        risk: Share of the training stays that ended with death; the answer when nothing is known starts there.
    """

    def __init__(self, risk: float) -> None:
        super().__init__()
        self.front = FrontEnd(DIM, DROPOUT)
        self.prior = nn.Parameter(torch.tensor(risk).logit())

    def answer(self, frames: Frames) -> Answer:
        """Answer from frames."""
        raise NotImplementedError

    def forward(self, values: Tensor, static: Tensor) -> Tensor:
        """Return logits ``(B,)`` from ranks ``(B, 48, 37)`` and static ranks ``(B, 5)``, NaN where there are none."""
        return self.prior + self.answer(self.front(values, static)).evidence

    def loss(self, stays: Stays) -> Tensor:
        """Return the cross-entropy, plus the mean of that of the modalities' own answers, where they are present."""
        frames = self.front(stays.values, stays.static)
        answer = self.answer(frames)
        loss = F.binary_cross_entropy_with_logits(self.prior + answer.evidence, stays.died) + answer.extra_loss
        for name, evidence in answer.unimodal.items():
            own = _cross_entropy(self.prior + evidence, stays.died, frames.present[name])
            loss = loss + own / len(answer.unimodal)
        return loss


class LateFusion(Network):
    """A head and a loss per modality; the answer is the prior and the sum over the modalities that are present.

    So the log-odds add up as those of independent evidence do, and the prior counts once.
    """

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.encoder = BottleneckEncoder(**ENCODER)
        self.heads = nn.ModuleDict({name: _head(DIM) for name in MODALITIES})

    def answer(self, frames: Frames) -> Answer:
        return self.late(self.encode(frames), frames)

    def encode(self, frames: Frames) -> dict[str, Tensor]:
        tokens = self.encoder(*frames)
        return {name: part.mean(1) * frames.present[name][:, None] for name, part in tokens.items()}

    def late(self, features: dict[str, Tensor], frames: Frames) -> Answer:
        evidence = {name: self.heads[name](part).squeeze(1) for name, part in features.items()}
        return Answer(sum(part * frames.present[name] for name, part in evidence.items()), evidence)


class LateFusionMLP(LateFusion):
    """Late fusion, plus an MLP on all modalities' features."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.mlp = _mlp(len(MODALITIES) * DIM)

    def answer(self, frames: Frames) -> Answer:
        features = self.encode(frames)
        late = self.late(features, frames)
        return late._replace(evidence=late.evidence + self.mlp(_join(features)).squeeze(1))


class Concatenation(LateFusionMLP):
    """The MLP alone, without an answer per modality."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        del self.heads

    def answer(self, frames: Frames) -> Answer:
        return Answer(self.mlp(_join(self.encode(frames))).squeeze(1), {})


class Modx(LateFusion):
    """modx's blocks: late fusion on the encoder's tokens, plus an answer from the fused tokens."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        del self.encoder
        self.fusion = MissingModalityFusion(**ENCODER, fusion_depth=1, levels=(), orthogonality_penalty="square")
        self.head = _head(DIM)

    def answer(self, frames: Frames) -> Answer:
        output = self.fusion(*frames)
        late = self.late(output.unimodal, frames)
        evidence = late.evidence + self.head(output.features.mean(1)).squeeze(1)
        extra = ORTHOGONALITY_WEIGHT * output.losses.orthogonality if output.losses else 0.0
        return Answer(evidence, late.unimodal, extra)


class Plain(Network):
    """An MLP on all summaries, with zeros for what is absent; it does not see the hours."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.mlp = _mlp(len(MODALITIES) * SUMMARY * DIM)

    def answer(self, frames: Frames) -> Answer:
        return Answer(self.mlp(_flat(_by_hour(frames)[1])).squeeze(1), {})


class Recurrent(Network):
    """A GRU over the hours, and an MLP on its last state and all summaries."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.gru = nn.GRU(DIM, DIM, batch_first=True)
        self.mlp = _mlp((1 + len(MODALITIES) * SUMMARY) * DIM)

    def answer(self, frames: Frames) -> Answer:
        hours, rest = _by_hour(frames)
        return Answer(self.mlp(torch.cat([self.gru(hours)[0][:, -1], _flat(rest)], 1)).squeeze(1), {})


class Transformer(Network):
    """One transformer over all hours and all summaries, with a token of its own that answers."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.token = nn.Parameter(0.02 * torch.randn(DIM))
        self.positions = nn.Parameter(0.02 * torch.randn(HOURS, DIM))
        self.blocks = TransformerEncoder(DIM, 2, dropout=DROPOUT, **BLOCK)
        self.head = _head(DIM)

    def answer(self, frames: Frames) -> Answer:
        hours, rest = _by_hour(frames)
        seen = torch.stack([frames.masks[name][:, :HOURS] for name in COLUMNS]).any(0)
        token = self.token.expand(len(hours), 1, -1)
        x = torch.cat([token, hours + self.positions, *(part for part, _ in rest.values())], 1)
        mask = torch.cat([seen.new_ones(len(hours), 1), seen, *(mask for _, mask in rest.values())], 1)
        return Answer(self.head(self.blocks(x, mask, num_queries=1)[:, 0]).squeeze(1), {})


NETWORKS: dict[str, type[Network]] = {
    "modx": Modx,
    "late": LateFusion,
    "late+mlp": LateFusionMLP,
    "concat": Concatenation,
    "mlp": Plain,
    "gru": Recurrent,
    "transformer": Transformer,
}


def _head(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Dropout(DROPOUT), nn.Linear(width, 1))


def _mlp(width: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Dropout(DROPOUT),
        nn.Linear(width, 2 * DIM),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Linear(2 * DIM, 1),
    )


def _join(features: dict[str, Tensor]) -> Tensor:
    return torch.cat([features[name] for name in MODALITIES], 1)


def _by_hour(frames: Frames) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Return the sum of all modalities' frames in each hour, and the other frames with their masks per modality."""
    hours = sum(frames.inputs[name][:, :HOURS] * frames.masks[name][:, :HOURS, None] for name in COLUMNS)
    first = {name: HOURS if name in COLUMNS else 0 for name in MODALITIES}
    return hours, {name: (frames.inputs[name][:, k:], frames.masks[name][:, k:]) for name, k in first.items()}


def _flat(summaries: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([(part * mask[..., None]).flatten(1) for part, mask in summaries.values()], 1)


def _cross_entropy(logits: Tensor, died: Tensor, there: Tensor) -> Tensor:
    """Return the mean cross-entropy over the stays that have a modality; 0 if none has it."""
    each = F.binary_cross_entropy_with_logits(logits, died, reduction="none")
    return (each * there).sum() / there.sum().clamp(min=1)
