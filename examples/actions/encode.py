"""ClipEncoder: front ends and the library's encoder; the same in every model."""

from typing import NamedTuple

from torch import Tensor, nn

from actions.frontend import FrontEnd, reduced
from actions.recordings import LENGTHS, Inputs
from modx import BottleneckEncoder

CHANNELS = {"accelerometer": 3, "gyroscope": 3, "skeleton": 60}


class Settings(NamedTuple):
    """Sizes that all models share."""

    dim: int = 64
    num_tokens: int = 4
    num_heads: int = 4
    head_dim: int = 16
    dropout: float = 0.1

    @property
    def block(self) -> dict[str, int]:
        """Arguments of every transformer block."""
        return {"num_heads": self.num_heads, "head_dim": self.head_dim, "ffn_dim": 2 * self.dim}


class Encoded(NamedTuple):
    """Per modality: ``tokens`` (B, N, D), and ``present`` (B,), False where nothing was observed."""

    tokens: dict[str, Tensor]
    present: dict[str, Tensor]


class ClipEncoder(nn.Module):
    """Encode each modality into a few tokens by itself.

    Args:
        modalities: Which of ``CHANNELS`` to read.
        settings: Sizes.
    """

    def __init__(self, modalities: tuple[str, ...], settings: Settings) -> None:
        super().__init__()
        self.modalities = modalities
        self.front_ends = nn.ModuleDict({name: FrontEnd(CHANNELS[name], settings.dim) for name in modalities})
        self.encoder = BottleneckEncoder(
            dict.fromkeys(modalities, settings.dim),
            settings.dim,
            num_tokens=settings.num_tokens,
            max_lengths={name: reduced(LENGTHS[name]) for name in modalities},
            **settings.block,
        )
        self.norms = nn.ModuleDict({name: nn.LayerNorm(settings.dim) for name in modalities})

    def forward(self, inputs: Inputs) -> Encoded:
        """Encode a batch."""
        features, masks = {}, {}
        for name in self.modalities:
            features[name], masks[name] = self.front_ends[name](inputs.values[name], inputs.observed[name])
        tokens = self.encoder(features, masks)
        present = {name: inputs.observed[name].any(1) for name in self.modalities}
        return Encoded({name: self.norms[name](part) for name, part in tokens.items()}, present)
