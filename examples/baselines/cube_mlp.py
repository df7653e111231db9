"""CubeMLP: networks that mix a cube of steps, modalities and channels along one axis after another."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.head import Head
from baselines.masked import check_lengths, masked_frames, mean_frames, pad_frames
from baselines.recurrent import read_both_ways, stacked


class CubeMlpOutput(NamedTuple):
    """Output of :class:`CubeMLP`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        cube: after the last layer, ``(B, T, M, C)``.
    """

    prediction: Tensor
    cube: Tensor


class CubeMLP(nn.Module):
    """Pure MLP mixing of modalities (Sun et al., ACM MM 2022), 0.98 M parameters on MOSI.

    Text is projected by a linear layer, other modalities by a bidirectional GRU whose directions are added, a LayerNorm
    and a ReLU. Stacked, they are a cube of T steps, M modalities and D channels. A layer mixes each of the three axes
    in turn, x <- P x + MLP(LayerNorm(x)) along that axis, where the MLP has two linear layers and a GELU, and P, a
    linear layer, brings x to the new size. The mean over steps is scored, modalities side by side. There is no loss
    beside the task's.

    We had the paper's abstract, its description in the DERL paper and the authors' code. The sizes, dropout, placement
    of LayerNorm and training options are those of the command that the code gives for MOSI. The modalities of a cube
    must have one length. In the authors' data, audio and vision are averaged within words. Data here need not be
    aligned: a sequence that can be longer than the cube is averaged in windows of equal size, before the GRU, and a
    shorter one is padded with zeros. In that code the cube holds BERT's states of padding tokens, and what LayerNorm
    makes of padded frames. Here masked frames are zeros in the cube, and the GRU skips them.

    Args:
        input_dims: features per frame, for each modality. "text" gets a linear layer, others a GRU.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        length: steps of the first cube.
        dim: D, channels of the first cube.
        sizes: steps and channels after each layer.
        gru_depth: layers of every GRU.
        dropout: of the modalities, and of what each MLP adds.

    Example:
        >>> core = CubeMLP({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, length=10, dim=4, sizes=[(5, 2)])
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).cube.shape
        torch.Size([2, 5, 2, 2])
    """

    training_parts = ()

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        length: int = 100,
        dim: int = 128,
        sizes: Sequence[Sequence[int]] = ((50, 128), (10, 32)),
        gru_depth: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.length = length
        self.max_lengths = {name: max_lengths[name] for name in names}
        self.encoders = nn.ModuleDict(
            {
                name: nn.Linear(input_dims[name], dim, bias=False)
                if name == "text"
                else GruEncoder(input_dims[name], dim, gru_depth)
                for name in names
            }
        )
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential()
        for steps, channels in sizes:
            self.layers.append(
                nn.Sequential(
                    AxisMlp(1, length, steps, dropout),
                    AxisMlp(2, len(names), len(names), dropout),
                    AxisMlp(3, dim, channels, dropout),
                )
            )
            length, dim = steps, channels
        self.head = Head(len(names) * dim, num_outputs)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> CubeMlpOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("CubeMLP", features, self.max_lengths)
        parts = []
        for name, encode in self.encoders.items():
            x, mask = masked_frames(features, masks, name)
            x, mask = window_means(x, mask, -(-self.max_lengths[name] // self.length))
            x = encode(x) if name == "text" else encode(x, mask)
            parts.append(pad_frames(self.dropout(x), mask, self.length)[0])
        cube = self.layers(torch.stack(parts, dim=2))
        return CubeMlpOutput(self.head(cube.mean(1).flatten(1)), cube)


class AxisMlp(nn.Module):
    """Mix one axis of the cube, and change its size: ``P x + MLP(LayerNorm(x))``."""

    def __init__(self, axis: int, size: int, new_size: int, dropout: float) -> None:
        super().__init__()
        self.axis = axis
        self.shortcut = nn.Linear(size, new_size, bias=False)
        self.norm = nn.LayerNorm(size, eps=1e-6)
        self.enter, self.leave = nn.Linear(size, new_size), nn.Linear(new_size, new_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cube: Tensor) -> Tensor:
        x = cube.movedim(self.axis, -1)
        x = self.shortcut(x) + self.dropout(self.leave(F.gelu(self.enter(self.norm(x)))))
        return x.movedim(-1, self.axis)


class GruEncoder(nn.Module):
    """Add up the two directions of a GRU, then apply LayerNorm and ReLU."""

    def __init__(self, width: int, dim: int, depth: int) -> None:
        super().__init__()
        self.layers = stacked(nn.GRU, width, dim, depth)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Read the unmasked frames of ``(B, T, D_m)``; the rows of others are not to be read."""
        forth, back = read_both_ways(x, mask, self.layers).chunk(2, dim=-1)
        return F.relu(self.norm(forth + back))


def window_means(x: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Average the unmasked rows of ``(B, T, D)`` in windows of ``size`` frames; a window without any is masked."""
    count = -(-x.shape[1] // size)
    x, mask = pad_frames(x, mask, count * size)
    means = mean_frames(x.view(-1, size, x.shape[2]), mask.view(-1, size)).view(len(x), count, -1)
    return means, mask.view(len(x), count, size).any(2)
