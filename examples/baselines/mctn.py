"""MCTN: translate one modality into the others, and score, from that modality alone, what its encoder found."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines.head import Head
from baselines.masked import check_lengths, first_at_least, hide, masked_frames, mean_over
from baselines.recurrent import both_ways, stacked, unmasked_first

WEIGHT = 0.1  # of every translation's loss, beside 1 for the task's


class MctnOutput(NamedTuple):
    """Output of :class:`MCTN`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        translated: modality -> the translation into it, ``(B, L_m, D_m)``, the cycle's into the source; only in
            training.
    """

    prediction: Tensor
    translated: dict[str, Tensor]


class MCTN(nn.Module):
    """Multimodal cyclic translation network (Pham et al., AAAI 2019), 0.30 M parameters on MOSI.

    A bidirectional LSTM, whose directions are added, encodes the source modality; an LSTM that attends to its states
    decodes them into the second modality. The cycle encodes and decodes that translation back into the source. In the
    hierarchical model, a second encoder reads the states of the first one, and is decoded into the third modality. An
    LSTM reads the last encoder's states, and their sum, weighted by attention, is scored. The loss is 0.1 times the
    mean squared error of every translation. A trained model reads the source modality alone.

    We had the paper's abstract, the description in the DERL paper and the authors' code, from which are the sizes, the
    weights of the losses and the order: text to vision to audio. Three things differ from that code. It has one pair of
    encoder and decoder for both ways of the cycle, which takes modalities of one width; here each way has its own. Its
    score of a state is linear in that state and in the decoder's cell, so that the cell cancels in the softmax, and
    every step gets the same context; here it is Bahdanau's, v tanh(W [state; cell]). The decoder there has one gate for
    both input and forgetting, and a tanh of its outputs, so that features are to be in [-1, 1]; here it is PyTorch's
    LSTM, and outputs are linear. That code has no masks and reads 20 frames. Here masked frames are not read, and only
    real frames are targets. The target is the complete input, which the losses take as a constant. Where the source is
    absent, all samples get one answer. More modalities than three lengthen the hierarchy.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dominant: the source modality.
        dim: D, units of every LSTM.

    Example:
        >>> core = MCTN({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dominant="text", dim=4)
        >>> output = core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)})
        >>> {name: tuple(x.shape) for name, x in output.translated.items()}
        {'audio': (2, 20, 5), 'text': (2, 9, 8)}
    """

    training_parts = ("decoders", "cycle_encoder", "cycle_decoder")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dominant: str,
        dim: int = 32,
    ) -> None:
        super().__init__()
        self.dominant = dominant
        self.max_lengths = {name: max_lengths[name] for name in sorted(input_dims)}
        others = [name for name in sorted(input_dims) if name != dominant]
        self.targets = sorted(others, key=lambda name: name != "vision") or [dominant]
        widths = [input_dims[dominant]] + [dim] * (len(self.targets) - 1)
        self.encoders = nn.ModuleDict(
            {name: Encoder(width, dim) for name, width in zip(self.targets, widths, strict=True)}
        )
        self.decoders = nn.ModuleDict({name: Decoder(dim, input_dims[name]) for name in self.targets})
        self.cycle_encoder = Encoder(input_dims[self.targets[0]], dim)
        self.cycle_decoder = Decoder(dim, input_dims[dominant])
        self.reader = nn.LSTM(dim, dim, batch_first=True)
        self.score = nn.Linear(dim, 1)
        self.head = Head(dim, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> MctnOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("MCTN", features, self.max_lengths)
        padded = {name: masked_frames(features, masks, name) for name in self.max_lengths}
        frames = {name: mask for name, (_, mask) in padded.items()}
        states, real = unmasked_first(*padded[self.dominant])
        translated: dict[str, Tensor] = {}
        for level, (name, encode) in enumerate(self.encoders.items()):
            states = encode(states, real)
            if self.training:
                translated[name] = self.decoders[name](states, real, frames[name].shape[1])
                if level == 0:
                    x, shown = unmasked_first(translated[name], first_at_least(frames[name]))
                    found = self.cycle_encoder(x, shown)
                    translated[self.dominant] = self.cycle_decoder(found, shown, frames[self.dominant].shape[1])
        read = self.reader(states)[0]
        weights = masked_softmax(self.score(read).tanh().squeeze(-1), real)
        return MctnOutput(self.head(torch.einsum("bt,btd->bd", weights, read)), translated)

    def losses(
        self, output: MctnOutput, complete: Mapping[str, Tensor], real: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the mean squared error of every translation over the real frames of its target, times its weight.

        Args:
            output: in training.
            complete: modality -> the complete input ``(B, L_m, D_m)``.
            real: modality -> bool ``(B, L_m)``, True for its real frames.
        """
        found = {}
        for name, guess in output.translated.items():
            errors = hide(guess - complete[name].detach(), real[name]).square().mean(-1)
            found[f"to_{name}"] = WEIGHT * mean_over(errors, real[name])
        return found


class Encoder(nn.Module):
    """Add up the two directions of an LSTM."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.layers = stacked(nn.LSTM, width, dim, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the states ``(B, T, D)`` of rows that :func:`baselines.recurrent.unmasked_first` returned."""
        forth, back = self.layers[0]
        states = both_ways(x, mask, forth, back)
        return states.unflatten(-1, (2, -1)).sum(-2)


class Decoder(nn.Module):
    """Decode the states of an encoder step by step: each step attends to them, by its own cell, and moves an LSTM."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.keys, self.query, self.score = (
            nn.Linear(dim, dim),
            nn.Linear(dim, dim, bias=False),
            nn.Linear(dim, 1, bias=False),
        )
        self.cell = nn.LSTMCell(dim, dim)
        self.leave = nn.Linear(dim, width)

    def forward(self, states: Tensor, mask: Tensor, length: int) -> Tensor:
        """Return ``(B, length, D_m)`` for states ``(B, T, D)``, of which only unmasked ones are attended to."""
        keys, found = self.keys(states), []
        hidden = cell = states.new_zeros(len(states), states.shape[2])
        for _ in range(length):
            scores = self.score((keys + self.query(cell)[:, None]).tanh()).squeeze(-1)
            context = torch.einsum("bt,btd->bd", masked_softmax(scores, mask), states)
            hidden, cell = self.cell(context, (hidden, cell))
            found.append(hidden)
        decoded: Tensor = self.leave(torch.stack(found, dim=1))
        return decoded


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return weights ``(B, T)`` that sum to 1 over unmasked frames; zeros where there are none."""
    return torch.where(mask, scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1), 0)
