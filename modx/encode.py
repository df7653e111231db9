"""BottleneckEncoder: a sequence of any length becomes a few tokens."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ._checks import (
    check_dtype,
    check_features,
    check_mapping,
    check_mask,
    check_modalities,
    check_names,
    check_sizes,
)
from .transformer import TransformerEncoder


class BottleneckEncoder(nn.Module):
    """Encode every modality's sequence into N bottleneck tokens (eq. 2 of DERL, Li et al.).

    Frames are projected to width D; N learned tokens, the same for all modalities, are put before them; learned
    positions are added, and a transformer of the modality's own lets them attend to one another. Only the N tokens
    leave, so that the last block attends with N queries and projects no frame to a key or value.

    Args:
        input_dims: width of a frame, for every modality.
        dim: D, width of a token.
        num_tokens: N, bottleneck tokens a modality.
        depth: transformer blocks a modality.
        num_heads, head_dim, ffn_dim: of each block.
        max_lengths: the most frames a sequence may have, for every modality.

    Example:
        >>> lengths = {"text": 50, "audio": 90}
        >>> encode = BottleneckEncoder({"text": 32, "audio": 5}, 16, num_tokens=4, max_lengths=lengths)
        >>> tokens = encode({"text": torch.randn(2, 50, 32), "audio": torch.randn(2, 70, 5)})
        >>> tokens["text"].shape, tokens["audio"].shape
        (torch.Size([2, 4, 16]), torch.Size([2, 4, 16]))
    """

    def __init__(
        self,
        input_dims: Mapping[str, int],
        dim: int,
        *,
        num_tokens: int,
        depth: int = 1,
        num_heads: int = 8,
        head_dim: int = 64,
        ffn_dim: int | None = None,
        max_lengths: Mapping[str, int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_mapping("BottleneckEncoder", "input_dims", input_dims)
        check_mapping("BottleneckEncoder", "max_lengths", max_lengths)
        self.modalities = check_names("BottleneckEncoder", input_dims, "input_dims for modalities")
        if max_lengths.keys() != input_dims.keys():
            raise ValueError(
                f"BottleneckEncoder expected max_lengths for modalities {self.modalities}, got {tuple(max_lengths)}; "
                "give every modality one."
            )
        for argument, numbers in (("input_dims", input_dims), ("max_lengths", max_lengths)):
            check_sizes("BottleneckEncoder", **{f"{argument}[{name!r}]": size for name, size in numbers.items()})
        check_sizes("BottleneckEncoder", dim=dim, num_tokens=num_tokens)
        check_dtype("BottleneckEncoder", dtype)
        self.input_dims = dict(input_dims)
        self.max_lengths = dict(max_lengths)
        self.num_tokens = num_tokens
        self.projections = nn.ModuleList(
            nn.Linear(input_dims[name], dim, device=device, dtype=dtype) for name in self.modalities
        )
        self.tokens = nn.Parameter(torch.empty(num_tokens, dim, device=device, dtype=dtype))
        self.positions = nn.ParameterList(
            nn.Parameter(torch.empty(num_tokens + max_lengths[name], dim, device=device, dtype=dtype))
            for name in self.modalities
        )
        self.transformers = nn.ModuleList(
            TransformerEncoder(
                dim,
                depth,
                num_heads=num_heads,
                head_dim=head_dim,
                ffn_dim=ffn_dim,
                device=device,
                dtype=dtype,
            )
            for _ in self.modalities
        )
        for parameter in (self.tokens, *self.positions):
            nn.init.normal_(parameter, std=0.02)  # at unit variance positions drown what the frames say

    def forward(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Encode the sequences.

        Args:
            inputs: ``(B, L_m, input_dims[m])`` for every modality m, L_m at most ``max_lengths[m]``.
            masks: bool ``(B, L_m)``, True where a frame is to be seen; what is masked may hold anything, and a
                sequence with nothing to see gives its tokens all the same. None: every frame is seen.

        Returns:
            ``(B, num_tokens, D)`` for every modality.

        Raises:
            ValueError: a modality is missing or unknown, or a shape, a length or a dtype does not fit.
        """
        check_features("BottleneckEncoder", inputs, self.input_dims, self.tokens.dtype, "inputs")
        if masks is not None:
            check_modalities("BottleneckEncoder masks", self.modalities, masks, "masks")
            for name, mask in masks.items():
                check_mask("BottleneckEncoder", f"the mask of {name!r}", mask, tuple(inputs[name].shape[:2]))
        return {
            name: self._encode(index, inputs[name], None if masks is None else masks[name])
            for index, name in enumerate(self.modalities)
        }

    def _encode(self, index: int, frames: Tensor, mask: Tensor | None) -> Tensor:
        name = self.modalities[index]
        batch_size, length = frames.shape[:2]
        if length > self.max_lengths[name]:
            raise ValueError(
                f"BottleneckEncoder expected at most {self.max_lengths[name]} frames of {name!r}, got {length}; "
                "shorten the sequence or raise max_lengths."
            )
        if mask is not None:
            frames = torch.where(mask[..., None], frames, 0)
            mask = torch.cat([mask.new_ones(batch_size, self.num_tokens), mask], dim=1)
        projected = self.projections[index](frames)
        tokens = self.tokens.to(projected.dtype).expand(batch_size, -1, -1)
        x = torch.cat([tokens, projected], dim=1) + self.positions[index][: self.num_tokens + length]
        encoded: Tensor = self.transformers[index](x, mask, num_queries=self.num_tokens)
        return encoded

    def extra_repr(self) -> str:
        return f"{self.input_dims}, num_tokens={self.num_tokens}, max_lengths={self.max_lengths}"
