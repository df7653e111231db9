"""ALMT: a hyper-modality that collects what language finds in the other modalities, layer by layer."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines.head import Head
from baselines.hyper import CrossBlock, HyperLayer, Positions, TokenEncoder
from baselines.masked import check_lengths, hide


class AlmtOutput(NamedTuple):
    """Output of :class:`ALMT`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        hyper: the hyper-modality after its last layer, ``(B, N, D)``.
    """

    prediction: Tensor
    hyper: Tensor


class ALMT(nn.Module):
    """Adaptive language-guided multimodal transformer (Zhang et al., EMNLP 2023), 2.60 M parameters on MOSI.

    Each modality is encoded into N tokens. The language tokens pass through further layers. In adaptive hyper-modality
    learning (AHL), every one of these, the input included, is the query of an attention to each other modality, whose
    results add up: H_hyper = H_hyper + softmax(Q_l K_a^T / sqrt(d)) V_a + softmax(Q_l K_v^T / sqrt(d)) V_v. Fusion puts
    one learned token before the language tokens and before H_hyper; the former attend to the latter in every layer of a
    cross-modal transformer, and the first of them is scored. There is no loss beside the task's.

    What the paper leaves open is taken from the authors' code: sizes, N(0, 1) positions, tokens of zeros (ones for
    H_hyper), a linear layer of the sum in AHL, its residual from the normalized H_hyper. In fusion as published,
    language tokens only ask and never answer, and only the first row is scored: no language token behind it can reach
    the score but through H_hyper. So these rows are not computed, and have no positions (1,024 parameters). In that
    code, attention reads padding; here masked frames are hidden from it.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dominant: the modality that guides; language in the paper.
        dim: D, width of a token.
        num_tokens: N, tokens per modality.
        encoder_depth: transformer blocks per input encoder.
        depth: transformer blocks of the dominant modality; AHL has one layer more.
        fusion_depth: layers of the cross-modal transformer.
        num_heads, head_dim: attention heads and, but for AHL, the width of each.

    Example:
        >>> core = ALMT({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dominant="text", dim=16, num_heads=2)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ()

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dominant: str,
        dim: int = 128,
        num_tokens: int = 8,
        encoder_depth: int = 1,
        depth: int = 2,
        fusion_depth: int = 2,
        num_heads: int = 8,
        head_dim: int = 64,
    ) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.dominant = dominant
        self.max_lengths = {name: max_lengths[name] for name in names}
        self.others = [name for name in names if name != dominant] or [dominant]
        sizes = {"dim": dim, "num_heads": num_heads, "head_dim": head_dim}
        self.projections = nn.ModuleDict({name: nn.Linear(input_dims[name], dim) for name in names})
        self.encoders = nn.ModuleDict(
            {
                name: TokenEncoder(max_lengths[name], depth=encoder_depth, num_tokens=num_tokens, **sizes)
                for name in names
            }
        )
        self.dominant_encoder = TokenEncoder(num_tokens, depth=depth, **sizes)
        self.hyper_seed = nn.Parameter(torch.empty(num_tokens, dim))
        self.hyper = nn.ModuleList(HyperLayer(self.others, dim, num_heads) for _ in range(depth + 1))
        self.source = Positions(num_tokens, dim, num_tokens=1)
        self.target = Positions(1, dim)
        self.cross = nn.ModuleList(CrossBlock(**sizes) for _ in range(fusion_depth))
        self.head = Head(dim, num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize the parameter that no submodule holds."""
        nn.init.ones_(self.hyper_seed)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> AlmtOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("ALMT", features, self.max_lengths)
        tokens = {}
        for name, encoder in self.encoders.items():
            mask = None if masks is None else masks[name]
            tokens[name] = encoder(self.projections[name](hide(features[name], mask)), mask)
        others = {name: tokens[name] for name in self.others}
        dominant = tokens[self.dominant]
        hyper = self.hyper_seed.to(dominant.dtype).expand(dominant.shape[0], -1, -1)
        for attend, layer in zip(self.hyper, self.dominant_encoder.layers(dominant), strict=True):
            hyper = attend(hyper, layer, others)
        source = self.source(hyper)
        answer = self.target(self.source.tokens.to(hyper.dtype).expand(hyper.shape[0], -1, -1))
        for block in self.cross:
            answer = block(answer, source)
        return AlmtOutput(self.head(answer[:, 0]), hyper)
