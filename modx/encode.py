"""BottleneckEncoder: encode a sequence of any length into a few tokens."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ._checks import check, check_layer, check_range, check_type
from ._folded import why_not
from ._modalities import ModalityModule, check_names, read_parts, reset
from ._ordinary import why_unusual
from ._plain import is_plain
from .ops.dispatch import Choice
from .transformer import TransformerBlock, TransformerEncoder


class BottleneckEncoder(ModalityModule):
    """Encode every modality's sequence into N bottleneck tokens (eq. 2 of DERL, Li et al.).

    Frames are projected to width D and prepended with N learned tokens, which all modalities share. Learned positions
    are added, and each modality's own transformer lets tokens and frames attend to one another. Only the N tokens are
    returned, so the last block computes only N queries. It folds the key projection into these queries and projects
    values after they are averaged, so frames are never projected to keys or values.

    Args:
        input_dims: Features per frame, for each modality. The order of the names does not matter.
        dim: D, width of a token.
        num_tokens: N, bottleneck tokens per modality.
        depth: Transformer blocks per modality.
        num_heads, head_dim, ffn_dim: Passed to every :class:`TransformerBlock`. Its inner width is
            ``num_heads * head_dim``, 512 by default, whatever ``dim`` is.
        max_lengths: Maximum number of frames per modality.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, a name is invalid, or the two mappings differ in their names.

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
        check_type(self, Mapping, input_dims=input_dims, max_lengths=max_lengths)
        self.modalities = check_names(self, input_dims, "keys of input_dims")
        named = max_lengths.keys() == input_dims.keys()
        check(named, self, f"max_lengths for modalities {self.modalities}", tuple(max_lengths), "pass one for each")
        for argument, numbers in (("input_dims", input_dims), ("max_lengths", max_lengths)):
            check_range(self, 1, **{f"{argument}[{name!r}]": size for name, size in numbers.items()})
        check_layer(self, dtype, dim=dim, num_tokens=num_tokens)
        self.input_dims = {name: input_dims[name] for name in self.modalities}
        self.max_lengths = {name: max_lengths[name] for name in self.modalities}
        self.num_tokens = num_tokens
        self.projections = nn.ModuleDict(
            {name: nn.Linear(width, dim, device=device, dtype=dtype) for name, width in self.input_dims.items()}
        )
        self.transformers = nn.ModuleDict(
            {
                name: TransformerEncoder(
                    dim,
                    depth,
                    num_heads=num_heads,
                    head_dim=head_dim,
                    ffn_dim=ffn_dim,
                    device=device,
                    dtype=dtype,
                )
                for name in self.modalities
            }
        )
        self.tokens = nn.Parameter(torch.empty(num_tokens, dim, device=device, dtype=dtype))
        self.positions = Positions(
            {
                name: nn.Parameter(torch.empty(num_tokens + length, dim, device=device, dtype=dtype))
                for name, length in self.max_lengths.items()
            }
        )
        self._reset_tokens()
        self.positions.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize all parameters, as the constructor does."""
        for child in self.children():
            if child is self.positions:
                self._reset_tokens()
            reset(child)

    def _reset_tokens(self) -> None:
        nn.init.normal_(self.tokens, std=0.02)

    def forward(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Encode the sequences.

        Args:
            inputs: ``(B, L_m, input_dims[m])`` per modality m with L_m at most ``max_lengths[m]``, or
                ``(B, input_dims[m])`` for one frame. A modality that is None or left out is left out of the result.
            masks: Bool ``(B, L_m)`` per modality, True where a frame is visible, or ``(B,)``, for all frames of a
                sample. Masked frames are never read, so they may hold NaN. A fully masked sequence still yields its
                tokens. Default: every frame is visible.

        Returns:
            ``(B, num_tokens, D)`` per modality.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A modality is unknown, there are no modalities, a sequence is too long, or a shape or dtype does
                not match.
        """
        frames, seen = self._read(inputs, masks)
        return {name: self._encode(name, part, seen.get(name)) for name, part in frames.items()}

    def _read(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        (frames,), seen = read_parts(self, masks, self.input_dims, self.tokens.dtype, "masks", inputs=inputs)
        for name, part in frames.items():
            limit, length = self.max_lengths[name], part.shape[1]
            expected = f"at most {limit} frames of {name!r}"
            check(length <= limit, self, expected, length, "truncate it or raise max_lengths")
        return frames, seen

    def _encode(self, name: str, frames: Tensor, mask: Tensor | None) -> Tensor:
        if self._choose(name, frames).implementation == "folded":
            return self._encode_folded(name, frames, mask)
        if mask is not None:
            mask = torch.cat([mask.new_ones(mask.shape[0], self.num_tokens), mask], dim=1)
        projected = self.projections[name](frames)
        tokens = self.tokens.to(projected.dtype).expand(projected.shape[0], -1, -1)
        x = self.positions(name, torch.cat([tokens, projected], dim=1))
        encoded: Tensor = self.transformers[name](x, mask, num_queries=self.num_tokens)
        return encoded

    def _encode_folded(self, name: str, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Encode without making a frame as wide as a token."""
        projection, positions = self.projections[name], self.positions[name]
        (block,) = cast(Any, self.transformers[name].blocks)
        tokens = self.tokens + positions[: self.num_tokens]
        biases = positions[self.num_tokens : self.num_tokens + frames.shape[1]]
        if projection.bias is not None:
            biases = biases + projection.bias
        encoded: Tensor = block._forward_folded(tokens, frames, projection.weight, torch.cat([tokens, biases]), mask)
        return encoded

    def explain(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> dict[str, Choice]:
        """Tell how each modality would be encoded, and why, without encoding it.

        Args:
            inputs, masks: As for :meth:`forward`.

        Returns:
            ``(implementation, reason)`` per modality: "folded", which never makes a frame as wide as a token, or
            "ordinary". Both give the same result up to rounding.

        Raises:
            TypeError, ValueError: As for :meth:`forward`.

        Example:
            >>> encode = BottleneckEncoder({"audio": 5}, 64, num_tokens=4, max_lengths={"audio": 375})
            >>> print(encode.explain({"audio": torch.randn(64, 375, 5)})["audio"])
            folded: frames stay 5 wide
            >>> print(encode.explain({"audio": torch.randn(1, 375, 5)})["audio"])
            ordinary: fewer than 8 samples, which gain nothing
        """
        frames, _ = self._read(inputs, masks)
        return {name: self._choose(name, part) for name, part in frames.items()}

    def _choose(self, name: str, frames: Tensor) -> Choice:
        obstacle = self._obstacle(name, frames)
        if obstacle is not None:
            return Choice("ordinary", obstacle)
        return Choice("folded", f"frames stay {frames.shape[2]} wide")

    def _obstacle(self, name: str, frames: Tensor) -> str | None:
        """Return the reason why frames are made as wide as a token, or None if they need not be."""
        blocks: Any = self.transformers[name].blocks
        unusual = why_unusual(frames, self.tokens)
        if unusual is not None:  # comes first: reading a size would specialize a graph
            return unusual
        if len(blocks) != 1:  # only the first block sees frames, and it computes a row for each of them
            return "frames attend to one another in all blocks but the last"
        if frames.device.type not in ("cpu", "cuda"):  # some others have no float64, which folding needs
            return f"frames on {frames.device.type}"
        if self.tokens.dtype not in (torch.float32, torch.float64):
            return f"parameters in {self.tokens.dtype}"
        (block,) = blocks
        plain = (
            is_plain(self.projections[name], nn.Linear)
            and is_plain(self.positions, Positions)
            and is_plain(self.transformers[name], TransformerEncoder)
            and is_plain(block, TransformerBlock)
            and block._can_absorb()
        )
        if not plain:
            return "a layer has hooks or is no plain layer"
        return why_not(frames, self.tokens.shape[1])

    def extra_repr(self) -> str:
        dim = self.tokens.shape[1]
        return f"{self.input_dims}, {dim}, num_tokens={self.num_tokens}, max_lengths={self.max_lengths}"


class Positions(nn.ParameterDict):
    """Learned positions ``(L, D)`` by modality.

    Unlike its base class it can be called, because offloading loads the parameters of a module when it is called.
    """

    __call__ = nn.Module.__call__

    def reset_parameters(self) -> None:
        """Reinitialize all positions."""
        for positions in self.values():
            nn.init.normal_(positions, std=0.02)  # unit-variance positions would swamp the frame features

    def forward(self, name: str, x: Tensor) -> Tensor:
        """Add the first T positions of a modality to ``(B, T, D)``."""
        positions: Tensor = self[name]
        return x + positions[: x.shape[1]]
