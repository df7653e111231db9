"""TransM: translate the dominant modality into each other one and back, and score what the translators encode."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines.crossmodal import sinusoids
from baselines.head import Head
from baselines.masked import check_lengths, first_at_least, hide, masked_frames, mean_frames, mean_over
from baselines.recurrent import read_both_ways, stacked

WEIGHT = 10.0  # of every translation's loss, beside 1 for the task's
HIDDEN = {"audio": 120}  # hidden units of the transformers that translate to and from it; 200 for other modalities
GRU_DROPOUT, DROPOUT, TRANSFORMER_DROPOUT = 0.5, 0.3, 0.5  # of a GRU's inputs, around the projection, of a transformer


class TransMOutput(NamedTuple):
    """Output of :class:`TransM`; mappings have every modality but the dominant one, and are filled only in training.

    Attributes:
        prediction: ``(B, num_outputs)``.
        there: the dominant modality translated into the other one, ``(B, L_m, D_m)``.
        back: that translated into the dominant modality, ``(B, L_d, D_d)``.
        frames: modality, the dominant one too -> bool ``(B, L_m)``, True where a frame was translated.
    """

    prediction: Tensor
    there: dict[str, Tensor]
    back: dict[str, Tensor]
    frames: dict[str, Tensor]


class TransM(nn.Module):
    """TransModality (Wang et al., The Web Conference 2020), 8.59 M parameters on MOSI.

    A bidirectional GRU and a linear layer with tanh encode each modality. For each pair of the dominant modality and
    another one, a transformer translates the former into the latter: its encoder reads the one, its decoder the other.
    A second transformer translates what the decoder found back. The loss is 10 times the mean absolute error of every
    translation. Averaged over frames, what all encoders found of a sample and the encoded modalities are concatenated
    and scored.

    We had the paper's abstract and introduction, the description in the DERL paper, and a public implementation in
    Keras that bears the paper's name. From it are the sizes, dropout, the weight of the losses and the text as dominant
    modality. There, a step is an utterance of a video, all modalities are aligned, and each step is scored. Here a step
    is a frame of one utterance, and means over frames are scored. That code also applies a ReLU to the queries, keys,
    values and results of attention, and to translations, which suits features that are never negative, and it drops
    recurrent inputs. Here the layers are PyTorch's. As there, a decoder reads the modality that it translates into.

    An absent modality is one frame of zeros: the decoder that reads it has nothing but the other modality to translate.
    The target of a translation is the complete input, which the losses take as a constant.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dominant: the modality that is translated into all others; text in the paper.
        dim: D, width of a frame after projection.
        gru_dim: units of every GRU in each direction.
        depth, decoder_depth: layers of every encoder and decoder.
        num_heads: attention heads.

    Example:
        >>> core = TransM({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dominant="text", dim=10, gru_dim=4)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).there["audio"].shape
        torch.Size([2, 20, 5])
    """

    training_parts = ("there_outputs", "back_decoders", "back_outputs")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dominant: str,
        dim: int = 100,
        gru_dim: int = 300,
        depth: int = 10,
        decoder_depth: int = 5,
        num_heads: int = 5,
    ) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.dominant = dominant
        self.max_lengths = {name: max_lengths[name] for name in names}
        self.others = [name for name in names if name != dominant] or [dominant]

        def transformers(kind: type[nn.Module], depth: int) -> nn.ModuleDict:
            return nn.ModuleDict(
                {name: Layers(kind, dim, depth, num_heads, HIDDEN.get(name, 200)) for name in self.others}
            )

        self.input_dropout, self.dropout = nn.Dropout(GRU_DROPOUT), nn.Dropout(DROPOUT)
        self.grus = nn.ModuleDict({name: stacked(nn.GRU, input_dims[name], gru_dim, 1) for name in names})
        self.projections = nn.ModuleDict({name: nn.Linear(2 * gru_dim, dim) for name in names})
        self.there_encoders = transformers(nn.TransformerEncoderLayer, depth)
        self.there_decoders = transformers(nn.TransformerDecoderLayer, decoder_depth)
        self.there_outputs = nn.ModuleDict({name: nn.Linear(dim, input_dims[name]) for name in self.others})
        self.back_encoders = transformers(nn.TransformerEncoderLayer, depth)
        self.back_decoders = transformers(nn.TransformerDecoderLayer, decoder_depth)
        self.back_outputs = nn.ModuleDict({name: nn.Linear(dim, input_dims[dominant]) for name in self.others})
        self.head = Head((2 * len(self.others) + len(names)) * dim, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> TransMOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("TransM", features, self.max_lengths)
        encoded, frames = {}, {}
        for name, project in self.projections.items():
            x, mask = masked_frames(features, masks, name)
            frames[name] = mask = first_at_least(mask)
            states = self.dropout(read_both_ways(self.input_dropout(x), mask, self.grus[name]))
            encoded[name] = self.dropout(project(states).tanh())
        source, real = encoded[self.dominant], frames[self.dominant]
        found, there, back = [mean_frames(x, frames[name]) for name, x in encoded.items()], {}, {}
        for name in self.others:
            first = self.there_encoders[name](source, real)
            between = self.there_decoders[name](encoded[name], frames[name], first, real)
            second = self.back_encoders[name](between, frames[name])
            found += [mean_frames(first, real), mean_frames(second, frames[name])]
            if self.training:
                there[name] = self.there_outputs[name](between)
                back[name] = self.back_outputs[name](self.back_decoders[name](source, real, second, frames[name]))
        return TransMOutput(self.head(torch.cat(found, dim=-1)), there, back, frames)

    def losses(
        self, output: TransMOutput, complete: Mapping[str, Tensor], real: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the mean absolute error of every translation over the real frames of its target, times its weight.

        Args:
            output: in training.
            complete: modality -> the complete input ``(B, L_m, D_m)``.
            real: modality -> bool ``(B, L_m)``, True for its real frames.
        """
        found = {}
        for name in self.others:
            pairs = {f"to_{name}": (output.there[name], name), f"from_{name}": (output.back[name], self.dominant)}
            for label, (guess, target) in pairs.items():
                chosen = real[target] & output.frames[target]
                errors = hide(guess - complete[target].detach(), chosen).abs().mean(-1)
                found[label] = WEIGHT * mean_over(errors, chosen)
        return found


class Layers(nn.Module):
    """PyTorch's transformer layers on a sequence with sinusoidal positions."""

    def __init__(self, kind: type[nn.Module], dim: int, depth: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            kind(dim, num_heads, hidden, TRANSFORMER_DROPOUT, batch_first=True) for _ in range(depth)
        )

    def forward(
        self, x: Tensor, mask: Tensor, source: Tensor | None = None, source_mask: Tensor | None = None
    ) -> Tensor:
        """Encode ``(B, T, D)``, or decode it where there is a source ``(B, S, D)``; rows of masked frames are zeros."""
        x = x + sinusoids(x)
        for layer in self.layers:
            if source is None or source_mask is None:
                x = layer(x, src_key_padding_mask=~mask)
            else:
                x = layer(x, source, tgt_key_padding_mask=~mask, memory_key_padding_mask=~source_mask)
        return hide(x, mask)
