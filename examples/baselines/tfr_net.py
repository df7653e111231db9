"""TFR-Net: cross-modal transformers whose features rebuild what is missing from the input."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.crossmodal import CrossmodalEncoder
from baselines.head import Head
from baselines.masked import check_lengths, hide, mean_over
from baselines.recurrent import both_ways, stacked, unmasked_first

WEIGHTS = {"text": 5.0, "audio": 2.0, "vision": 20.0}  # of the reconstruction losses; 1 for other modalities
KERNELS = {"text": 1, "audio": 5}  # of the convolutions; 3 for other modalities
HIDDEN = {"text": 36, "audio": 20, "vision": 48}  # hidden units of the gates; 36 for other modalities
DROPOUT = {"text": 0.2, "audio": 0.1}  # of attention weights, by the modality that asks
MOST_HEADS = 25  # of the transformers over channels


class TfrNetOutput(NamedTuple):
    """Output of :class:`TFRNet`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        rebuilt: modality -> ``(B, L_m, D_m)``, a guess of the complete input; only in training.
    """

    prediction: Tensor
    rebuilt: dict[str, Tensor]


class TFRNet(nn.Module):
    """Transformer-based feature reconstruction network (Yuan et al., ACM MM 2021), 14.85 M parameters on MOSI.

    A convolution projects each modality to width D. It attends to itself and to each other modality as in MulT, and the
    results are concatenated, H_m. For reconstruction, a transformer over the channels of H_m, whose features are the
    frames, and a linear layer guess the complete input; the loss is SmoothL1 on what is missing. For the score, a
    bidirectional GRU reads H_m, a convolution of its states gates them, and a linear layer of H_m and the gated states
    is max-pooled over time; the pooled modalities are concatenated.

    What the paper leaves open is taken from the authors' code: sizes, dropout, loss weights, a transformer per pair of
    modalities, 25 heads over channels, batch normalization before the head, a first epoch without reconstruction. That
    code reads padding: in attention, in the transformers over channels and in max-pooling. Here masked frames are zeros
    before the convolution and the transformer over channels, which needs every frame in its place, and appear nowhere
    else; the GRU skips them. The code also hides later frames from earlier ones in attention, which the paper does not.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality; shorter input is padded by masked frames.
        num_outputs: scores, or classes.
        dim: D, width of a frame after projection.
        depth: layers of every transformer.
        num_heads: attention heads of the transformers over frames.
        gru_depth: layers of every GRU.
        head_dim: hidden units before the outputs.

    Example:
        >>> core = TFRNet({"text": 8, "audio": 5}, {"text": 10, "audio": 20}, 1, dim=4, depth=1, num_heads=2)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ("over_channels", "generators")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dim: int = 30,
        depth: int = 3,
        num_heads: int = 6,
        gru_depth: int = 3,
        head_dim: int = 128,
    ) -> None:
        super().__init__()
        self.names = names = sorted(input_dims)
        self.max_lengths = {name: max_lengths[name] for name in names}

        def encoder(name: str, width: int, heads: int, positions: bool = True) -> CrossmodalEncoder:
            rate = DROPOUT.get(name, 0.0)
            return CrossmodalEncoder(
                width, depth, heads, attention_dropout=rate, input_dropout=0.2, dropout=0.2, positions=positions
            )

        def convolution(name: str) -> nn.Module:
            return nn.Conv1d(input_dims[name], dim, KERNELS.get(name, 3), padding="same", bias=False)

        def over_channels(name: str) -> nn.Module:
            length = max_lengths[name]
            heads = max(count for count in range(1, MOST_HEADS + 1) if length % count == 0)
            return encoder(name, length, heads, positions=False)

        width = dim * len(names)
        self.text_dropout = nn.Dropout(0.2)
        self.projections = nn.ModuleDict({name: convolution(name) for name in names})
        self.encoders = nn.ModuleDict(
            {name: nn.ModuleDict({source: encoder(name, dim, num_heads) for source in names}) for name in names}
        )
        self.over_channels = nn.ModuleDict({name: over_channels(name) for name in names})
        self.generators = nn.ModuleDict({name: nn.Linear(width, input_dims[name]) for name in names})
        self.gates = nn.ModuleDict({name: GatedGru(width, HIDDEN.get(name, 36), gru_depth) for name in names})
        pooled = sum(HIDDEN.get(name, 36) for name in names)
        self.norm = BatchNorm(pooled)
        self.hidden = nn.Sequential(nn.Linear(pooled, head_dim), nn.LeakyReLU())
        self.head = Head(head_dim, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> TfrNetOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("TFRNet", features, self.max_lengths)
        if masks is None:
            masks = {name: part.new_ones(part.shape[:2], dtype=torch.bool) for name, part in features.items()}
        projected = {}
        for name, project in self.projections.items():
            x = hide(features[name], masks[name])
            x = self.text_dropout(x) if name == "text" else x
            projected[name] = hide(project(x.mT).mT, masks[name])
        pooled, rebuilt = [], {}
        for name in self.names:
            parts = [
                encode(projected[name], masks[name])
                if source == name
                else encode(projected[name], masks[name], source=projected[source], source_mask=masks[source])
                for source, encode in self.encoders[name].items()
            ]
            x = torch.cat(parts, dim=-1)
            pooled.append(self.gates[name](x, masks[name]))
            if self.training:
                channels = F.pad(x, (0, 0, 0, self.max_lengths[name] - x.shape[1])).mT
                rebuilt[name] = self.generators[name](self.over_channels[name](channels).mT)[:, : x.shape[1]]
        return TfrNetOutput(self.head(self.hidden(self.norm(torch.cat(pooled, dim=-1)))), rebuilt)

    def losses(
        self, output: TfrNetOutput, complete: Mapping[str, Tensor], missing: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return every modality's reconstruction loss, times its weight.

        Args:
            output: of the incomplete input, in training.
            complete: modality -> the complete input ``(B, L_m, D_m)``.
            missing: modality -> bool ``(B, L_m)``, True where a real frame was dropped.
        """
        found = {}
        for name, rebuilt in output.rebuilt.items():
            guess, target = hide(rebuilt, missing[name]), hide(complete[name], missing[name])
            errors = F.smooth_l1_loss(guess, target, reduction="none").mean(-1)
            found[f"{name}_reconstruction"] = WEIGHTS.get(name, 1.0) * mean_over(errors, missing[name])
        return found


class GatedGru(nn.Module):
    """Pool a sequence: its GRU's states, times a gate that a convolution of them opens, beside the sequence itself."""

    def __init__(self, dim: int, hidden_dim: int, depth: int) -> None:
        super().__init__()
        self.layers = stacked(nn.GRU, dim, hidden_dim, depth)
        self.gate = nn.Conv1d(2 * hidden_dim, 1, 3, padding=1)
        self.mix = nn.Linear(dim + 2 * hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pool ``(B, T, D)`` over unmasked frames; zeros where there are none."""
        x, mask = unmasked_first(x, mask)
        states = x
        for forth, back in self.layers:
            states = both_ways(states, mask, forth, back)
        gated = states.tanh() * self.gate(states.mT).mT.sigmoid()
        rows = self.mix(torch.cat([x, gated], dim=-1)).tanh()
        pooled = torch.where(mask[..., None], rows, -1).amax(1)  # tanh is above -1
        result: Tensor = self.dropout(torch.where(mask.any(1)[:, None], pooled, 0))
        return result


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization that also takes a training batch of one sample, by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
