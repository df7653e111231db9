"""MissingModalityFusion: all of DERL except the head, behind one call."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check, check_choice, check_range, check_type
from ._modalities import hide, read_parts, reset
from ._ordinary import why_unusual
from ._pretrained import Pretrained
from .disentangle import Disentangled, HybridExpertDisentangler
from .encode import BottleneckEncoder
from .fusion import ModalityRouter
from .losses import PENALTIES, orthogonality_loss, reconstruction_loss
from .reconstruct import LEVELS, MultiLevelReconstructor
from .transformer import TransformerEncoder

DROPPED = ("erased", "absent")
Parts = dict[str, Tensor]
Rows = slice | Tensor


class FusionLosses(NamedTuple):
    """Scalars: ``orthogonality`` (eq. 5) and ``reconstruction`` (eq. 12)."""

    orthogonality: Tensor
    reconstruction: Tensor


class FusionOutput(NamedTuple):
    """The result of :class:`MissingModalityFusion`.

    Attributes:
        features: ``(B, N, D)``, the fused tokens.
        unimodal: ``(B, D)`` per modality, the mean of its encoded tokens, or zeros where it is absent.
        router_weights: Two mappings, for the private and the shared views: ``(B, N)`` per modality (eq. 14).
        expert_weights: ``(B, N, P + S)`` per modality, the weights of its experts.
        losses: The losses of eq. 5 and 12; None in evaluation mode.
        complete_features: ``(B, N, D)``, the fused tokens of the complete input; None in evaluation mode.
        complete_unimodal: The same as ``unimodal`` for the complete input; None in evaluation mode.
    """

    features: Tensor
    unimodal: Parts
    router_weights: tuple[Parts, ...]
    expert_weights: Parts
    losses: FusionLosses | None
    complete_features: Tensor | None
    complete_unimodal: Parts | None


class MissingModalityFusion(Pretrained):
    """Fuse sequences of several modalities, each of which may be partly or completely missing (DERL, Li et al.).

    It chains an encoder, a disentangler, a modality router (eq. 13-15) and a transformer with learned positions
    (eq. 16). In training it adds a reconstructor and the losses of eq. 5 and 12. You add the head and the loss of your
    task, e.g. ``head(fusion(inputs, masks).features.mean(1))``.

    Args:
        input_dims: Features per frame, for each modality. The order of the names does not matter.
        dim: D, width of a token.
        num_tokens: N, bottleneck tokens per modality.
        max_lengths: Maximum number of frames per modality.
        encoder_depth: Transformer blocks per modality.
        fusion_depth: Transformer blocks after fusion.
        num_heads, head_dim, ffn_dim: Passed to every :class:`modx.TransformerBlock`. Its inner width is
            ``num_heads * head_dim``, 512 by default, whatever ``dim`` is.
        num_private_experts: P, private experts per modality.
        num_shared_experts: S, experts shared across modalities.
        expert_dim: Hidden units of each expert. Default: ``2 * dim``.
        reconstructor_dim: Hidden units of the reconstructor. Default: ``dim``.
        router_dim: Hidden units of the modality router. Default: ``2 * dim``.
        top_k: Passed to :class:`modx.HybridExpertDisentangler`: number of experts to which a token gives weight.
            Default: all P + S.
        dropout: Dropout probability of the disentangler's views, and of every block of the transformer after fusion.
        levels: Levels to reconstruct, any of "input", "disentangled" and "joint". If empty, there is no reconstructor,
            and its loss is 0.
        orthogonality_penalty: Passed to :func:`modx.losses.orthogonality_loss`.
        detach_target: Passed to :func:`modx.losses.reconstruction_loss`.
        dropped_modality: How to treat a modality that ``keep`` drops completely. "erased": as zeros that are still
            attended to, as in the paper. "absent": as if it were not passed at all; choose this if modalities will be
            missing at inference.
        implementation: Passed to :func:`modx.ops.expert_mixture`.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range or unknown, a name is invalid, or ``input_dims`` and ``max_lengths``
            do not name the same modalities.

    Example:
        >>> lengths = {"audio": 90, "vision": 40}
        >>> fusion = MissingModalityFusion({"audio": 5, "vision": 20}, 16, num_tokens=4, max_lengths=lengths)
        >>> inputs = {"audio": torch.randn(2, 90, 5), "vision": torch.randn(2, 40, 20)}
        >>> keep = {name: torch.rand(x.shape[:2]) > 0.5 for name, x in inputs.items()}
        >>> output = fusion(inputs, keep=keep)
        >>> output.features.shape, output.losses._fields
        (torch.Size([2, 4, 16]), ('orthogonality', 'reconstruction'))
        >>> fusion.eval()({"audio": None, "vision": inputs["vision"]}).features.shape
        torch.Size([2, 4, 16])
    """

    def __init__(
        self,
        input_dims: Mapping[str, int],
        dim: int,
        *,
        num_tokens: int,
        max_lengths: Mapping[str, int],
        encoder_depth: int = 1,
        fusion_depth: int = 2,
        num_heads: int = 8,
        head_dim: int = 64,
        ffn_dim: int | None = None,
        num_private_experts: int = 1,
        num_shared_experts: int = 3,
        expert_dim: int | None = None,
        reconstructor_dim: int | None = None,
        router_dim: int | None = None,
        top_k: int | None = None,
        dropout: float = 0.0,
        levels: Sequence[str] = LEVELS,
        orthogonality_penalty: str = "cosine",
        detach_target: bool = False,
        dropped_modality: str = "erased",
        implementation: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_range(self, 1, dim=dim, encoder_depth=encoder_depth, fusion_depth=fusion_depth)
        expert_dim = 2 * dim if expert_dim is None else expert_dim
        reconstructor_dim = dim if reconstructor_dim is None else reconstructor_dim
        router_dim = 2 * dim if router_dim is None else router_dim
        check_range(self, 1, expert_dim=expert_dim, reconstructor_dim=reconstructor_dim, router_dim=router_dim)
        check_choice(self, PENALTIES, orthogonality_penalty=orthogonality_penalty)
        check_type(self, bool, detach_target=detach_target)
        check_choice(self, DROPPED, dropped_modality=dropped_modality)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        block: dict[str, Any] = {"num_heads": num_heads, "head_dim": head_dim, "ffn_dim": ffn_dim}
        self.encoder = BottleneckEncoder(
            input_dims,
            dim,
            num_tokens=num_tokens,
            depth=encoder_depth,
            max_lengths=max_lengths,
            **block,
            **factory,
        )
        self.modalities = self.encoder.modalities
        self.disentangler = HybridExpertDisentangler(
            self.modalities,
            dim,
            expert_dim,
            num_private_experts=num_private_experts,
            num_shared_experts=num_shared_experts,
            top_k=top_k,
            dropout=dropout,
            implementation=implementation,
            **factory,
        )
        self.reconstructor = (
            MultiLevelReconstructor(self.modalities, dim, reconstructor_dim, levels=levels, **factory)
            if levels
            else None
        )
        self.modality_router = ModalityRouter(self.modalities, dim, router_dim, **factory)
        self.positions = nn.Parameter(torch.empty(num_tokens, dim, **factory))
        self._reset_positions()
        self.transformer = TransformerEncoder(dim, fusion_depth, dropout=dropout, **block, **factory)
        self.orthogonality_penalty = orthogonality_penalty
        self.detach_target = detach_target
        self.dropped_modality = dropped_modality
        self._config = {
            "input_dims": self.encoder.input_dims,
            "dim": dim,
            "num_tokens": num_tokens,
            "max_lengths": self.encoder.max_lengths,
            "encoder_depth": encoder_depth,
            "fusion_depth": fusion_depth,
            **block,
            "num_private_experts": num_private_experts,
            "num_shared_experts": num_shared_experts,
            "expert_dim": expert_dim,
            "reconstructor_dim": reconstructor_dim,
            "router_dim": router_dim,
            "top_k": top_k,
            "dropout": dropout,
            "levels": list(self.reconstructor.levels) if self.reconstructor else [],
            "orthogonality_penalty": orthogonality_penalty,
            "detach_target": detach_target,
            "dropped_modality": dropped_modality,
            "implementation": implementation,
        }

    def reset_parameters(self) -> None:
        """Reinitialize all parameters, as the constructor does."""
        for child in self.children():
            if child is self.transformer:
                self._reset_positions()
            reset(child)

    def _reset_positions(self) -> None:
        nn.init.normal_(self.positions, std=0.02)

    def forward(
        self,
        inputs: Mapping[str, Tensor | None],
        masks: Mapping[str, Tensor] | None = None,
        keep: Mapping[str, Tensor] | None = None,
        *,
        complete: Mapping[str, Tensor] | None = None,
    ) -> FusionOutput:
        """Fuse the modalities that are present and, in training, compute the losses.

        In training with ``keep`` or ``complete``, the incomplete and the complete input run as one batch; samples in
        which nothing is missing run only once. Without either, the input is its own target.

        Args:
            inputs: ``(B, L_m, input_dims[m])`` per modality m, or ``(B, input_dims[m])`` for one frame. A modality that
                is None or left out is absent and is left out of the result's mappings.
            masks: Bool ``(B, L_m)`` or ``(B,)`` per modality, True where a frame is real. Where a sample has no real
                frames, the modality is absent. Default: every frame is real.
            keep: Bool ``(B, L_m)`` or ``(B,)`` per modality, True where a frame survived simulated dropping. Dropped
                frames become zeros (eq. 1). A modality that is left out keeps all its frames.
            complete: The complete version of each modality that is already incomplete in ``inputs``, e.g. text whose
                words became [UNK] before a text encoder ran. Read in training only.

        Returns:
            Fused tokens, unimodal features, weights and losses.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A modality is unknown, there are no modalities, a sequence is too long, or a shape or dtype does
                not match.
        """
        frames, whole, real, kept = self._read(inputs, masks, keep, complete)
        seen, shown = hide(frames, kept), real
        if kept and self.dropped_modality == "absent":
            real = _all_real(frames) | real
            shown = real | {name: real[name] & (real[name] & mask).any(1, keepdim=True) for name, mask in kept.items()}
        batch_size = next(iter(frames.values())).shape[0]
        first = slice(batch_size)  # rows of the incomplete input; ``second``: rows of the complete input
        second: Rows = first
        if self.training and (keep is not None or complete is not None):
            rows = _changed(seen, whole, shown, real)
            seen = {name: torch.cat([part, whole[name][rows]]) for name, part in seen.items()}
            shown = {name: torch.cat([mask, real[name][rows]]) for name, mask in shown.items()}
            second = _replace(batch_size, rows)
        present = {name: mask.any(1) for name, mask in shown.items()} or None
        tokens = self.encoder(seen, shown or None)
        views = self.disentangler(tokens, present)
        fused = self.modality_router(views.private, views.shared, present=present)
        features = self.transformer(fused.features + self.positions)
        means = hide({name: part.mean(1) for name, part in tokens.items()}, present or {})
        return FusionOutput(
            features[first],
            _rows(means, first),
            tuple(_rows(view, first) for view in fused.router_weights),
            _rows(views.router_weights, first),
            self._losses(tokens, views, present, first, second) if self.training else None,
            features[second] if self.training else None,
            _rows(means, second) if self.training else None,
        )

    def _read(
        self,
        inputs: Mapping[str, Tensor | None],
        masks: Mapping[str, Tensor] | None,
        keep: Mapping[str, Tensor] | None,
        complete: Mapping[str, Tensor] | None,
    ) -> tuple[Parts, Parts, Parts, Parts]:
        """Return the incomplete frames, the complete frames, the masks of real frames and the masks of kept frames."""
        dims, dtype = self.encoder.input_dims, self.positions.dtype
        (frames,), real = read_parts(self, masks, dims, dtype, "masks", inputs=inputs)
        if masks is None and any(part.shape[1] == 0 for part in frames.values()):  # no frames: absent
            real = _all_real(frames)
        whole, kept = frames, {}
        if keep is not None:
            check_type(self, Mapping, keep=keep)
            there = {name: frames[name] for name in frames if keep.get(name) is not None}
            expected = f"keep for some of the modalities {tuple(dims)}"
            check(keep.keys() <= dims.keys(), self, expected, tuple(keep), "rename or leave out the others")
            check(any(mask is not None for mask in keep.values()), self, expected, tuple(keep), "pass a mask")
            kept = read_parts(self, keep, dims, dtype, "keep", inputs=there)[1] if there else {}
        if complete is not None:
            (found,), _ = read_parts(self, None, dims, dtype, complete=complete)
            whole = {name: found.get(name, part) for name, part in frames.items()}
            read_parts(self, None, dims, dtype, inputs=frames, complete=whole)
        return frames, whole, real, kept

    def _losses(
        self, tokens: Parts, views: Disentangled, present: Parts | None, seen: Rows, whole: Rows
    ) -> FusionLosses:
        """Compute eq. 5 and 12; ``seen`` and ``whole`` are the rows of the incomplete and the complete input."""
        there = None if present is None else _rows(present, seen)
        split, target = (Disentangled(*(_rows(view, rows) for view in views)) for rows in (seen, whole))
        orthogonality = orthogonality_loss(split, penalty=self.orthogonality_penalty, present=there)
        if self.reconstructor is None:
            return FusionLosses(orthogonality, torch.zeros_like(orthogonality))
        rebuilt = self.reconstructor(_rows(tokens, seen), split, there)
        reconstruction = reconstruction_loss(
            rebuilt, _rows(tokens, whole), target, detach_target=self.detach_target, present=there
        )
        return FusionLosses(orthogonality, reconstruction.total)

    def extra_repr(self) -> str:
        return (
            f"{self.modalities}, orthogonality_penalty={self.orthogonality_penalty!r}, "
            f"detach_target={self.detach_target}, dropped_modality={self.dropped_modality!r}"
        )


def _all_real(frames: Parts) -> Parts:
    return {name: part.new_ones(part.shape[:2], dtype=torch.bool) for name, part in frames.items()}


def _rows(parts: Mapping[str, Tensor], rows: Rows) -> Parts:
    return {name: part[rows] for name, part in parts.items()}


def _changed(seen: Parts, whole: Parts, shown: Parts, real: Parts) -> Rows:
    """Return the rows that differ from the complete input; running the others twice would give the same result.

    Returns all rows where the choice cannot depend on values, as in a compiled, exported or traced graph.
    """
    if why_unusual(*seen.values()) is not None:
        return slice(None)
    differ = []
    for name, part in seen.items():
        frames = (part != whole[name]).any(-1)
        differ.append(((frames & real[name]) | (shown[name] ^ real[name]) if real else frames).any(1))
    return torch.stack(differ).any(0).nonzero().squeeze(1)


def _replace(batch_size: int, rows: Rows) -> Rows:
    """Locate the complete input of each sample: appended to the batch for ``rows``, else the sample's own row."""
    if isinstance(rows, slice):
        return slice(batch_size, None)
    places = torch.arange(batch_size, device=rows.device)
    places[rows] = torch.arange(batch_size, batch_size + len(rows), device=rows.device)
    return places
