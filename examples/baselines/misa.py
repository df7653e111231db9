"""MISA: every modality in a space that all share and in one of its own, and attention among these."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.head import Head
from baselines.masked import check_lengths, hide, masked_frames, mean_frames, mean_over
from baselines.recurrent import both_ways, unmasked_first

WEIGHTS = {"similarity": 1.0, "difference": 0.3, "reconstruction": 1.0}  # of the losses: alpha, beta, gamma
MOMENTS = 5  # K of the central moment discrepancy


class MisaParts(NamedTuple):
    """What training compares; mappings are by modality, ``(B, D)``.

    Attributes:
        summaries: u, the projected modality.
        common, own: its two parts.
        rebuilt: u as the decoder makes it from both.
        present: bool ``(B,)``, False where a sample lacks the modality; no loss reads it there.
    """

    summaries: dict[str, Tensor]
    common: dict[str, Tensor]
    own: dict[str, Tensor]
    rebuilt: dict[str, Tensor]
    present: dict[str, Tensor]


class MisaOutput(NamedTuple):
    """Output of :class:`MISA`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        parts: only in training.
    """

    prediction: Tensor
    parts: MisaParts | None = None


class MISA(nn.Module):
    """Modality-invariant and -specific representations (Hazarika et al., ACM MM 2020), 1.13 M parameters on MOSI.

    Each modality is summed up in a vector u: text by the mean of its encoder's states, others by the final states of
    two bidirectional LSTMs, and a linear layer. One encoder for all modalities finds its common part h^c, an encoder of
    its own the other part h^p. A transformer layer attends among the 2 M parts, which are concatenated and scored.
    Three losses join the task's. Similarity: the central moment discrepancy of the common parts of every pair of
    modalities, averaged. Difference: ``|A^T B|^2`` for the two parts of a modality and for the own parts of every pair,
    where the rows of A and B are samples, centered and of length 1. Reconstruction: the mean squared distance of u from
    a decoder's D(h^c + h^p).

    What the paper leaves open is taken from the authors' code: LSTMs as wide as the features, LayerNorms, sigmoid parts
    (so that the discrepancy's interval has length 1), loss weights, ``|A^T B|^2`` divided by D^2 and with constant row
    lengths, a decoder per modality, 2 heads and a feed-forward width of 2,048. Left out are a LayerNorm and a
    discriminator that no output or loss of that code reads (3,588 parameters of 1.14 M). Their data is aligned with
    words; MMSA's version for unaligned data reads no more frames of a modality than the text has tokens. Here the LSTMs
    read every unmasked frame. The paper has no absent modalities; here their parts are not attended to, and are zeros
    before the head.

    Args:
        input_dims: features per frame, for each modality. "text" is averaged, others go through LSTMs.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dim: D, width of a part.
        num_heads: attention heads.
        ffn_dim: hidden units of the transformer layer.
        dropout: of hidden units before the outputs.

    Example:
        >>> core = MISA({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dim=4, ffn_dim=8)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ("decoders",)  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dim: int = 128,
        num_heads: int = 2,
        ffn_dim: int = 2048,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.names = names = sorted(input_dims)
        self.max_lengths = {name: max_lengths[name] for name in names}

        def project(name: str) -> nn.Module:
            width = input_dims[name] if name == "text" else 4 * input_dims[name]
            return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.LayerNorm(dim))

        self.summarizers = nn.ModuleDict({name: FinalStates(input_dims[name]) for name in names if name != "text"})
        self.projections = nn.ModuleDict({name: project(name) for name in names})
        self.common = nn.Linear(dim, dim)
        self.own = nn.ModuleDict({name: nn.Linear(dim, dim) for name in names})
        self.decoders = nn.ModuleDict({name: nn.Linear(dim, dim) for name in names})
        self.attend = nn.TransformerEncoderLayer(dim, num_heads, ffn_dim, batch_first=True)
        width = len(names) * dim
        self.hidden = nn.Sequential(nn.Linear(2 * width, width), nn.Dropout(dropout), nn.ReLU())
        self.head = Head(width, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> MisaOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("MISA", features, self.max_lengths)
        summaries, present = {}, {}
        for name, project in self.projections.items():
            x, mask = masked_frames(features, masks, name)
            summaries[name], present[name] = project(self._sum_up(name, x, mask)), mask.any(1)
        common = {name: self.common(x).sigmoid() for name, x in summaries.items()}
        own = {name: self.own[name](x).sigmoid() for name, x in summaries.items()}
        rows = torch.stack([*own.values(), *common.values()], dim=1)
        here = torch.stack(2 * list(present.values()), dim=1)
        shown = here | ~here.any(1, keepdim=True)  # attention over nothing would be NaN
        fused = hide(self.attend(rows, src_key_padding_mask=~shown), here)
        prediction = self.head(self.hidden(fused.flatten(1)))
        if not self.training:
            return MisaOutput(prediction)
        rebuilt = {name: decode(common[name] + own[name]) for name, decode in self.decoders.items()}
        return MisaOutput(prediction, MisaParts(summaries, common, own, rebuilt, present))

    def _sum_up(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        if name == "text":
            return mean_frames(x, mask)
        found: Tensor = self.summarizers[name](x, mask)
        return found

    def losses(self, parts: MisaParts) -> dict[str, Tensor]:
        """Return the three losses beside the task's, each times its weight."""
        _, common, own, rebuilt, present = parts
        pairs = list(combinations(self.names, 2))
        discrepancies = [moment_discrepancy(common[m], present[m], common[n], present[n]) for m, n in pairs]
        overlaps = [overlap(own[name], common[name], present[name]) for name in self.names]
        overlaps += [overlap(own[m], own[n], present[m] & present[n]) for m, n in pairs]
        distances = [
            mean_over(F.mse_loss(rebuilt[name], u, reduction="none").mean(-1), present[name])
            for name, u in parts.summaries.items()
        ]
        found = {
            "similarity": sum(discrepancies, distances[0].new_zeros(())) / max(len(pairs), 1),
            "difference": torch.stack(overlaps).sum(),
            "reconstruction": torch.stack(distances).mean(),
        }
        return {name: WEIGHTS[name] * loss for name, loss in found.items()}


class FinalStates(nn.Module):
    """Sum up a sequence by the final states of two bidirectional LSTMs, with a LayerNorm between them: ``(B, 4 D)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.LSTM(width, dim, batch_first=True) for _ in range(2)) for width in (dim, 2 * dim)
        )
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Read the unmasked frames of ``(B, T, D)``; zeros where there are none."""
        x, mask = unmasked_first(x, mask)
        final = (mask.sum(1) - 1).clamp(min=0)[:, None, None]
        found = []
        for forth, back in self.layers:
            states = both_ways(x, mask, forth, back)
            read, read_back = states.chunk(2, dim=-1)
            found += [read.gather(1, final.expand(-1, 1, read.shape[2]))[:, 0], read_back[:, 0]]
            x = self.norm(states)
        return torch.cat(found, dim=-1)


def moment_discrepancy(x: Tensor, of_x: Tensor, y: Tensor, of_y: Tensor) -> Tensor:
    """Return the central moment discrepancy of samples in [0, 1] (Zellinger et al., ICLR 2017); 0 without samples.

    It is the distance of the means, plus those of the central moments of orders 2 to K, of each unit.

    Args:
        x, y: ``(B, D)``.
        of_x, of_y: bool ``(B,)``, True for the samples that count.
    """
    gaps = [a - b for a, b in zip(_moments(x, of_x), _moments(y, of_y), strict=True)]
    total = torch.linalg.vector_norm(torch.stack(gaps), dim=-1).sum()  # unlike a root, with a gradient at 0
    return torch.where(of_x.any() & of_y.any(), total, 0)


def _moments(x: Tensor, chosen: Tensor) -> list[Tensor]:
    shares = chosen.to(x.dtype) / chosen.sum().clamp(min=1)
    mean = shares @ x
    return [mean, *(shares @ (x - mean) ** order for order in range(2, MOMENTS + 1))]


def overlap(x: Tensor, y: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean square of ``A^T B``, for the chosen rows of ``(B, D)``, centered and of length 1."""
    rows = []
    for part in (x, y):
        mean = hide(part, chosen).sum(0) / chosen.sum().clamp(min=1)
        centered = hide(part - mean, chosen)
        rows.append(centered / (centered.norm(dim=-1, keepdim=True).detach() + 1e-6))
    return (rows[0].mT @ rows[1]).square().mean()
