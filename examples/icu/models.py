"""The networks compared. They have one front end: ranks in, NaN where there are none, and one logit per stay out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icu.front import LENGTHS, SUMMARY, WINDOWS, Description, Frames, FrontEnd
from icu.variables import COLUMNS, MODALITIES
from modx import BottleneckEncoder, HybridExpertDisentangler, ModalityRouter, TransformerEncoder
from modx.losses import orthogonality_loss

DIM = 32
DROPOUT = 0.2
BLOCK = {"num_heads": 4, "head_dim": 8, "ffn_dim": 2 * DIM}
ENCODER = {
    "input_dims": dict.fromkeys(MODALITIES, DIM),
    "dim": DIM,
    "num_tokens": SUMMARY,
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

    def forward(self, described: Description) -> Tensor:
        """Return logits ``(B,)``."""
        return self.prior + self.answer(self.front(described)).evidence

    def loss(self, described: Description, died: Tensor) -> Tensor:
        """Return the cross-entropy, plus the mean of that of the modalities' own answers, where they are present."""
        frames = self.front(described)
        answer = self.answer(frames)
        loss = F.binary_cross_entropy_with_logits(self.prior + answer.evidence, died) + answer.extra_loss
        for name, evidence in answer.unimodal.items():
            own = _cross_entropy(self.prior + evidence, died, frames.present[name])
            loss = loss + own / len(answer.unimodal)
        return loss


class LateFusion(Network):
    """A head and a loss per modality; the answer is the prior and the sum over the modalities that are present.

    So the log-odds add up as those of independent evidence do, and the prior counts once.
    """

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.encoder = BottleneckEncoder(**ENCODER)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(DIM) for name in MODALITIES})
        self.heads = nn.ModuleDict({name: _mlp(SUMMARY * DIM) for name in MODALITIES})

    def answer(self, frames: Frames) -> Answer:
        tokens, present = self.encode(frames), frames.present
        evidence = {name: self.heads[name](part.flatten(1)).squeeze(1) for name, part in tokens.items()}
        late = sum(part * present[name] for name, part in evidence.items())
        joint, extra_loss = self.joint(tokens, present)
        return Answer(late + joint, evidence, extra_loss)

    def encode(self, frames: Frames) -> dict[str, Tensor]:
        """Return ``(B, SUMMARY, DIM)`` per modality: the encoder's tokens plus the summary; zeros where absent."""
        tokens = {}
        for name, part in self.encoder(*frames).items():
            part = self.norms[name](part + frames.inputs[name][:, -SUMMARY:])
            tokens[name] = part.masked_fill(~frames.present[name][:, None, None], 0)
        return tokens

    def joint(self, tokens: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[Tensor | float, Tensor | float]:
        """Return what all modalities' tokens together add to the answer, and to the loss."""
        return 0.0, 0.0


class LateFusionMLP(LateFusion):
    """Late fusion, plus an MLP on all modalities' tokens."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.mlp = _mlp(len(MODALITIES) * SUMMARY * DIM)

    def joint(self, tokens: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[Tensor, float]:
        return self.mlp(_join(tokens)).squeeze(1), 0.0


class Concatenation(LateFusionMLP):
    """The MLP alone, without an answer per modality."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        del self.heads

    def answer(self, frames: Frames) -> Answer:
        return Answer(self.mlp(_join(self.encode(frames))).squeeze(1), {})


class Modx(LateFusion):
    """Late fusion, plus the answer of modx's blocks on all modalities' tokens."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.disentangle = HybridExpertDisentangler(MODALITIES, DIM, hidden_dim=2 * DIM, dropout=DROPOUT)
        self.fuse = ModalityRouter(MODALITIES, DIM, hidden_dim=2 * DIM)
        self.positions = nn.Parameter(0.02 * torch.randn(SUMMARY, DIM))
        self.mix = TransformerEncoder(DIM, depth=1, dropout=DROPOUT, **BLOCK)
        self.head = _mlp(SUMMARY * DIM)

    def joint(self, tokens: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[Tensor, Tensor | float]:
        views = self.disentangle(tokens, present)
        fused = self.fuse(views.private, views.shared, present=present).features
        answer = self.head(self.mix(fused + self.positions).flatten(1)).squeeze(1)
        extra_loss = ORTHOGONALITY_WEIGHT * orthogonality_loss(views, penalty="square", present=present)
        return answer, extra_loss


class Plain(Network):
    """An MLP on all summaries, with zeros for what is absent; it does not see the windows."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.mlp = _mlp(len(MODALITIES) * SUMMARY * DIM)

    def answer(self, frames: Frames) -> Answer:
        return Answer(self.mlp(_flat(_by_window(frames)[1])).squeeze(1), {})


class Recurrent(Network):
    """A GRU over the windows, and an MLP on its last state and all summaries."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.gru = nn.GRU(DIM, DIM, batch_first=True)
        self.mlp = _mlp((1 + len(MODALITIES) * SUMMARY) * DIM)

    def answer(self, frames: Frames) -> Answer:
        windows, rest = _by_window(frames)
        return Answer(self.mlp(torch.cat([self.gru(windows)[0][:, -1], _flat(rest)], 1)).squeeze(1), {})


class Transformer(Network):
    """One transformer over all windows and all summaries, with a token of its own that answers."""

    def __init__(self, risk: float) -> None:
        super().__init__(risk)
        self.token = nn.Parameter(0.02 * torch.randn(DIM))
        self.positions = nn.Parameter(0.02 * torch.randn(WINDOWS, DIM))
        self.blocks = TransformerEncoder(DIM, 2, dropout=DROPOUT, **BLOCK)
        self.head = _head(DIM)

    def answer(self, frames: Frames) -> Answer:
        windows, rest = _by_window(frames)
        seen = torch.stack([frames.masks[name][:, :WINDOWS] for name in COLUMNS]).any(0)
        token = self.token.expand(len(windows), 1, -1)
        x = torch.cat([token, windows + self.positions, *(part for part, _ in rest.values())], 1)
        mask = torch.cat([seen.new_ones(len(windows), 1), seen, *(mask for _, mask in rest.values())], 1)
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


def _join(tokens: dict[str, Tensor]) -> Tensor:
    return torch.cat([tokens[name].flatten(1) for name in MODALITIES], 1)


def _by_window(frames: Frames) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    """Return the sum of all modalities' frames in each window, and the other frames with their masks per modality."""
    windows = sum(frames.inputs[name][:, :WINDOWS] * frames.masks[name][:, :WINDOWS, None] for name in COLUMNS)
    first = {name: WINDOWS if name in COLUMNS else 0 for name in MODALITIES}
    return windows, {name: (frames.inputs[name][:, k:], frames.masks[name][:, k:]) for name, k in first.items()}


def _flat(summaries: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    return torch.cat([(part * mask[..., None]).flatten(1) for part, mask in summaries.values()], 1)


def _cross_entropy(logits: Tensor, died: Tensor, there: Tensor) -> Tensor:
    """Return the mean cross-entropy over the stays that have a modality; 0 if none has it."""
    each = F.binary_cross_entropy_with_logits(logits, died, reduction="none")
    return (each * there).sum() / there.sum().clamp(min=1)
