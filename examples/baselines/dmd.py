"""DMD: split every modality into a common and an own part, and let modalities teach one another in each."""

from collections.abc import Callable, Mapping
from itertools import permutations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.crossmodal import CrossmodalEncoder
from baselines.head import Head
from baselines.masked import Windows, check_lengths, last, masked_frames, mean_over
from baselines.residual import Residual

DECOUPLING, INNER, DISTILLATION = 0.1, 0.1, 0.05  # weights of the losses: lambda 1, gamma, lambda 2
MARGIN = 0.15  # of a pair of classes; of scores, times their distance
DROPOUT = {"text": 0.3, "audio": 0.2}  # of attention weights, by the modality that asks
TEXT_DROPOUT = 0.5
Criterion = Callable[[Tensor, Tensor], Tensor]  # outputs (B, num_outputs), labels (B,) -> (B,)


class Guess(NamedTuple):
    """What is predicted from one part of one modality: ``(B, num_outputs)``, and the features that it comes from."""

    outputs: Tensor
    features: Tensor


class DmdParts(NamedTuple):
    """What training compares; mappings are by modality, ``(B, T_m, D)`` unless stated.

    Attributes:
        projected, common, own: the projected input and its two parts.
        rebuilt, own_again: the decoder's input from the two parts, and its own part.
        aligned: common parts in one space, ``(B, D)``.
        frames: bool ``(B, T_m)``, True where a window has a real frame.
        guesses: of the common parts, and of the own parts.
        joint: prediction of all common parts together, ``(B, num_outputs)``.
        edges: weights of the graphs of common and own parts, ``(B, E)``, for all ordered pairs of modalities.
    """

    projected: dict[str, Tensor]
    common: dict[str, Tensor]
    own: dict[str, Tensor]
    rebuilt: dict[str, Tensor]
    own_again: dict[str, Tensor]
    aligned: dict[str, Tensor]
    frames: dict[str, Tensor]
    guesses: tuple[dict[str, Guess], dict[str, Guess]]
    joint: Tensor
    edges: tuple[Tensor, Tensor]


class DmdOutput(NamedTuple):
    """Output of :class:`DMD`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        parts: only in training.
    """

    prediction: Tensor
    parts: DmdParts | None = None


class DMD(nn.Module):
    """Decoupled multimodal distilling (Li et al., CVPR 2023), 10.30 M parameters on MOSI.

    A convolution projects each modality. A shared encoder finds its common part, an encoder of its own the rest; a
    decoder rebuilds the input from both (L_rec), and the rest is found in that again (L_cyc). Common parts of one label
    lie closer than those of different labels (L_mar), and are orthogonal to own parts (L_ort). Own parts attend to one
    another as in MulT. In each of the two spaces a graph distillation unit weights, for every ordered pair of
    modalities, the distance between their predictions: L_dtl = sum of w_ij |f(X_i) - f(X_j)|, the teacher detached.

    What the paper leaves open is taken from the authors' code: sizes, dropout, loss weights, softmax over all pairs at
    temperature 8, the margin's growth with the distance of scores, task losses for every unit's predictions, the last
    frame as summary. That code differs from the paper, and from this file, in five places: its graphs are also pulled
    towards a fixed prior, and own parts also apart from one another; its margin loss compares all pairs, whatever
    their modality; its orthogonality is a cosine over the samples of a batch; and its 12.58 M parameters count three
    layers (2.28 M) that no output reads. Its attention hides later frames, and reads padding. Here masked frames are
    zeros before the convolution, never attended to, and the last real frame is the summary.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality; shorter input is padded by masked frames.
        num_outputs: scores, or classes.
        dim: D, width of a frame after projection.
        depth: layers of every transformer.
        num_heads: attention heads.
        kernel_size: of the convolutions.

    Example:
        >>> core = DMD({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dim=4, depth=1, num_heads=2)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = (  # a trained model works without them
        "decoders",
        "align",
        "common_units",
        "common_heads",
        "own_units",
        "own_heads",
        "joint_unit",
        "joint_head",
        "graphs",
    )

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dim: int = 50,
        depth: int = 4,
        num_heads: int = 10,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.names = names = sorted(input_dims)
        self.max_lengths = {name: max_lengths[name] for name in names}
        self.others = {name: [other for other in names if other != name] or [name] for name in names}
        kernels = {name: min(kernel_size, max_lengths[name]) for name in names}
        flat = {name: dim * (max_lengths[name] - kernels[name] + 1) for name in names}
        wide = dim * len(self.others[names[0]])

        def each(make: Callable[[str], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({name: make(name) for name in names})

        def encoder(name: str, width: int) -> nn.Module:
            dropout = DROPOUT.get(name, 0.0)
            return CrossmodalEncoder(width, depth, num_heads, attention_dropout=dropout, input_dropout=0.2)

        self.text_dropout = nn.Dropout(TEXT_DROPOUT)
        self.projections = each(lambda name: Windows(input_dims[name], dim, kernels[name], bias=False))
        self.common = nn.Linear(dim, dim, bias=False)
        self.own = each(lambda name: nn.Linear(dim, dim, bias=False))
        self.decoders = each(lambda name: nn.Linear(2 * dim, dim, bias=False))
        self.align = each(lambda name: nn.Linear(flat[name], dim))
        self.common_memory = each(lambda name: encoder(name, dim))
        self.crossmodal = each(lambda name: nn.ModuleDict({other: encoder(name, dim) for other in self.others[name]}))
        self.own_memory = each(lambda name: encoder(name, wide))
        self.common_units = each(lambda name: Residual(flat[name], dim))
        self.common_heads = each(lambda name: nn.Linear(flat[name], num_outputs))
        self.own_units = each(lambda name: Residual(wide, wide))
        self.own_heads = each(lambda name: nn.Linear(wide, num_outputs))
        self.joint_unit = Residual(len(names) * dim, len(names) * dim)
        self.joint_head = nn.Linear(len(names) * dim, num_outputs)
        self.graphs = nn.ModuleList([Graph(num_outputs, dim, 64), Graph(num_outputs, wide, 32)])
        self.gates = each(lambda name: nn.Linear(wide, wide))
        self.joint_gate = nn.Linear(len(names) * dim, len(names) * dim)
        whole = len(names) * (wide + dim)
        self.unit = Residual(whole, whole)
        self.head = Head(whole, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> DmdOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("DMD", features, self.max_lengths)
        projected, frames = {}, {}
        for name, project in self.projections.items():
            x, mask = masked_frames(features, masks, name, self.max_lengths[name])
            x = self.text_dropout(x) if name == "text" else x
            projected[name], frames[name] = project(x, mask)
        own = {name: self.own[name](x) for name, x in projected.items()}
        common = {name: self.common(x) for name, x in projected.items()}
        summaries = {}
        for name, x in own.items():
            crossed = [
                encode(x, frames[name], source=own[other], source_mask=frames[other])
                for other, encode in self.crossmodal[name].items()
            ]
            summaries[name] = last(self.own_memory[name](torch.cat(crossed, dim=-1), frames[name]), frames[name])
        joint = torch.cat(
            [last(self.common_memory[name](x, frames[name]), frames[name]) for name, x in common.items()], dim=-1
        )
        gated = [self.gates[name](x).sigmoid() for name, x in summaries.items()]
        prediction = self.head(self.unit(torch.cat([*gated, self.joint_gate(joint).sigmoid()], dim=-1)))
        if not self.training:
            return DmdOutput(prediction)
        rebuilt = {name: self.decoders[name](torch.cat([own[name], common[name]], dim=-1)) for name in own}
        flat = {name: x.flatten(1) for name, x in common.items()}
        guesses: tuple[dict[str, Guess], dict[str, Guess]] = ({}, {})
        for name, x in flat.items():
            unit, reinforced = self.common_units[name], self.own_units[name](summaries[name])
            guesses[0][name] = Guess(self.common_heads[name](unit(x)), unit.hidden(x))
            guesses[1][name] = Guess(self.own_heads[name](reinforced), reinforced)
        here = {name: mask.any(1) for name, mask in frames.items()}
        parts = DmdParts(
            projected,
            common,
            own,
            rebuilt,
            {name: self.own[name](x) for name, x in rebuilt.items()},
            {name: self.align[name](x) for name, x in flat.items()},
            frames,
            guesses,
            self.joint_head(self.joint_unit(joint)),
            (self.graphs[0](guesses[0], here), self.graphs[1](guesses[1], here)),
        )
        return DmdOutput(prediction, parts)

    def losses(self, parts: DmdParts, labels: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """Return the losses beside the task's, each times its weight.

        Args:
            parts: of the output, in training.
            labels: scores (floating-point) or numbers of classes, ``(B,)``.
            criterion: the task's loss of every sample.
        """
        present = {name: mask.any(1) for name, mask in parts.frames.items()}
        tasks = [
            mean_over(criterion(guess.outputs, labels), present[name])
            for space in parts.guesses
            for name, guess in space.items()
        ]
        terms = dict.fromkeys(("rec", "cyc", "ort"), parts.joint.new_zeros(()))
        for name, frames in parts.frames.items():
            terms["rec"] = terms["rec"] + _distance(parts.rebuilt[name], parts.projected[name], frames)
            terms["cyc"] = terms["cyc"] + _distance(parts.own_again[name], parts.own[name], frames)
            cosine = F.cosine_similarity(parts.common[name], parts.own[name], dim=-1)
            terms["ort"] = terms["ort"] + mean_over(cosine.relu(), frames)
        graphs = [distillation_loss(guesses, edges) for guesses, edges in zip(parts.guesses, parts.edges, strict=True)]
        return {
            "units": criterion(parts.joint, labels).mean() + torch.stack(tasks).sum(),
            "reconstruction": DECOUPLING * terms["rec"],
            "cycle": DECOUPLING * terms["cyc"],
            "margin": DECOUPLING * INNER * margin_loss(parts.aligned, present, labels),
            "orthogonality": DECOUPLING * INNER * terms["ort"],
            "common_distillation": DISTILLATION * graphs[0],
            "own_distillation": DISTILLATION * graphs[1],
        }


class Graph(nn.Module):
    """Weight every ordered pair of modalities (student, teacher) by their outputs and features."""

    def __init__(self, num_outputs: int, width: int, hidden: int) -> None:
        super().__init__()
        self.outputs, self.features = nn.Linear(num_outputs, hidden), nn.Linear(width, hidden)
        self.edge = nn.Linear(4 * hidden, 1)

    def forward(self, guesses: Mapping[str, Guess], present: Mapping[str, Tensor]) -> Tensor:
        """Return ``(B, E)``, which sum to 1 over the pairs that are present."""
        nodes = {name: torch.cat([self.outputs(x), self.features(y)], dim=-1) for name, (x, y) in guesses.items()}
        pairs = list(permutations(nodes, 2))
        if not pairs:
            return next(iter(nodes.values()))[:, :0]
        scores = torch.cat([self.edge(torch.cat([nodes[i], nodes[j]], dim=-1)) for i, j in pairs], dim=-1) / 8
        both = torch.stack([present[i] & present[j] for i, j in pairs], dim=-1)
        weights = scores.float().masked_fill(~both, torch.finfo(torch.float32).min).softmax(-1)
        return torch.where(both, weights, 0)


def distillation_loss(guesses: Mapping[str, Guess], edges: Tensor) -> Tensor:
    """Return the mean over samples of sum w_ij |f(X_i) - f(X_j)|, where the teacher f(X_j) is a constant."""
    pairs = list(permutations(guesses, 2))
    gaps = [(guesses[i].outputs - guesses[j].outputs.detach()).abs().sum(-1) for i, j in pairs]
    return (edges * torch.stack(gaps, dim=-1)).sum(-1).mean() if pairs else edges.sum()


def margin_loss(features: Mapping[str, Tensor], present: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Return the mean of max(0, margin - cos(i, j) + cos(i, k)) over triples of features ``(B, D)``.

    j has the label of i and another modality; k has another label and the modality of i.
    """
    x = F.normalize(torch.stack(list(features.values())), dim=-1)  # (M, B, D)
    here = torch.stack(list(present.values()))
    other = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    gap = (labels[:, None] - labels).abs()
    margin = MARGIN * gap if labels.is_floating_point() else torch.full_like(gap, MARGIN, dtype=x.dtype)
    near = torch.einsum("mbd,ncd->mbnc", x, x).flatten(2)  # (M, B, M B)
    far = torch.einsum("mbd,mcd->mbc", x, x)
    is_near = (other[:, None, :, None] & (gap == 0)[:, None] & here[:, :, None, None] & here).flatten(2)
    is_far = (gap > 0) & here[:, :, None] & here[:, None]
    hinge = (margin[:, None] - near[..., None] + far[:, :, None]).relu()  # (M, B, M B, B)
    return mean_over(hinge, is_near[..., None] & is_far[:, :, None])


def _distance(x: Tensor, y: Tensor, frames: Tensor) -> Tensor:
    return mean_over(F.mse_loss(x, y, reduction="none").mean(-1), frames)
