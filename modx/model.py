"""MissingModalityFusion: the whole of DERL but the head, behind one call."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check, check_choice, check_range, check_type
from ._modalities import hide, read_parts, reset
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
    """What :class:`MissingModalityFusion` returns.

    Attributes:
        features: ``(B, N, D)``, the fused tokens.
        unimodal: ``(B, D)`` per modality, the mean of its encoded tokens; zeros where it is absent.
        router_weights: ``(B, N)`` per modality, for the private and for the shared views (eq. 14).
        expert_weights: ``(B, N, P + S)`` per modality, the weights of its experts.
        losses: In training only.
        complete_features: ``(B, N, D)``, the fused tokens of the complete input; in training only.
    """

    features: Tensor
    unimodal: Parts
    router_weights: tuple[Parts, ...]
    expert_weights: Parts
    losses: FusionLosses | None
    complete_features: Tensor | None


class MissingModalityFusion(Pretrained):
    """Fuse sequences of several modalities, any of which may be missing in part or whole (DERL, Li et al.).

    Encoder, disentangler, modality router (eq. 13-15) and fusion transformer with its positions (eq. 16); in training
    also the reconstructor and the losses of eq. 5 and 12. The head and the loss of the task are yours, as in
    ``head(fusion(inputs, masks).features.mean(1))``.

    Args:
        input_dims: Width of a frame per modality; the order of the names does not matter.
        dim: D, width of a token.
        num_tokens: N, bottleneck tokens per modality.
        max_lengths: The most frames that a sequence may have, per modality.
        encoder_depth: Transformer blocks per modality.
        fusion_depth: Transformer blocks after fusion.
        num_heads, head_dim, ffn_dim: Passed to every :class:`modx.TransformerBlock`.
        num_private_experts: P, experts of each modality alone.
        num_shared_experts: S, experts shared across modalities.
        expert_dim: Hidden units of each expert. Default: ``2 * dim``.
        reconstructor_dim: Hidden units of the reconstructor. Default: ``dim``.
        router_dim: Hidden units of the modality router. Default: ``2 * dim``.
        levels: What to reconstruct: any of "input", "disentangled" and "joint". With none there is no reconstructor,
            and its loss is 0.
        orthogonality_penalty: Passed to :func:`modx.losses.orthogonality_loss`.
        detach_target: Passed to :func:`modx.losses.reconstruction_loss`.
        dropped_modality: What a modality becomes when ``keep`` drops all of it: "erased", zeros that are attended to
            (the paper's), or "absent", as if it had been left out. Choose "absent" if modalities will be left out after
            training.
        implementation: Passed to :func:`modx.ops.expert_mixture`.

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
        self.transformer = TransformerEncoder(dim, fusion_depth, **block, **factory)
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
            "levels": list(self.reconstructor.levels) if self.reconstructor else [],
            "orthogonality_penalty": orthogonality_penalty,
            "detach_target": detach_target,
            "dropped_modality": dropped_modality,
            "implementation": implementation,
        }

    def reset_parameters(self) -> None:
        """Draw every parameter anew, as the constructor does."""
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
        """Fuse what is there; in training, also learn to rebuild what was dropped.

        In training, with ``keep`` or ``complete``, the incomplete and the complete input go through as one batch, a
        sample that is complete only once. With neither, the input is its own target.

        Args:
            inputs: ``(B, L_m, input_dims[m])`` per modality m, or ``(B, input_dims[m])`` for one frame. A modality that
                is left out, or None, is absent, and left out of the mappings that come back.
            masks: Bool ``(B, L_m)`` or ``(B,)`` per modality, True where a frame is real. Where a sample has no real
                frame, the modality is absent. None: every frame is real.
            keep: Bool like ``masks``, True where a frame survived simulated dropping; what was dropped becomes zeros
                (eq. 1). A modality that is left out was kept whole.
            complete: The complete input of each modality whose ``inputs`` are incomplete already, as where words are
                replaced before a text encoder. Read in training only.

        Raises:
            ValueError: A modality is unknown, none is given, or a shape, a length or a dtype does not fit.
        """
        frames, whole, real, kept = self._read(inputs, masks, keep, complete)
        seen, shown = hide(frames, kept), real
        if kept and self.dropped_modality == "absent":
            every = {name: part.new_ones(part.shape[:2], dtype=torch.bool) for name, part in frames.items()}
            real = every | real
            shown = real | {name: real[name] & (real[name] & mask).any(1, keepdim=True) for name, mask in kept.items()}
        batch_size = next(iter(frames.values())).shape[0]
        first = slice(batch_size)  # the rows of the incomplete input, and of the complete one
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
        )

    def _read(
        self,
        inputs: Mapping[str, Tensor | None],
        masks: Mapping[str, Tensor] | None,
        keep: Mapping[str, Tensor] | None,
        complete: Mapping[str, Tensor] | None,
    ) -> tuple[Parts, Parts, Parts, Parts]:
        """The incomplete and the complete frames, and the masks of what is real and of what was kept."""
        dims, dtype = self.encoder.input_dims, self.positions.dtype
        (frames,), real = read_parts(self, masks, dims, dtype, "masks", inputs=inputs)
        whole, kept = frames, {}
        if keep is not None:
            check_type(self, Mapping, keep=keep)
            there = {name: frames[name] for name in frames if keep.get(name) is not None}
            expected, known = f"keep of modalities {tuple(dims)}", keep.keys() <= dims.keys()
            check(known and any(mask is not None for mask in keep.values()), self, expected, tuple(keep), "add a mask")
            kept = read_parts(self, keep, dims, dtype, "keep", inputs=there)[1] if there else {}
        if complete is not None:
            (found,), _ = read_parts(self, None, dims, dtype, complete=complete)
            whole = {name: found.get(name, part) for name, part in frames.items()}
            read_parts(self, None, dims, dtype, inputs=frames, complete=whole)
        return frames, whole, real, kept

    def _losses(
        self, tokens: Parts, views: Disentangled, present: Parts | None, seen: Rows, whole: Rows
    ) -> FusionLosses:
        """Eq. 5 and 12; ``seen`` and ``whole`` are the rows of the incomplete and of the complete input."""
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


def _rows(parts: Mapping[str, Tensor], rows: Rows) -> Parts:
    return {name: part[rows] for name, part in parts.items()}


def _changed(seen: Parts, whole: Parts, shown: Parts, real: Parts) -> Rows:
    """The rows that differ from the complete input: a second pass over the others would compute the same.

    A graph has one shape whatever is dropped, so all rows are in it.
    """
    if torch.compiler.is_compiling() or next(iter(seen.values())).is_meta:
        return slice(None)
    differ = []
    for name, part in seen.items():
        frames = (part != whole[name]).any(-1)
        differ.append(((frames & real[name]) | (shown[name] ^ real[name]) if real else frames).any(1))
    return torch.stack(differ).any(0).nonzero().squeeze(1)


def _replace(batch_size: int, rows: Rows) -> Rows:
    """Where the rows of the complete input are, if ``rows`` of them lie below the batch."""
    if isinstance(rows, slice):
        return slice(batch_size, None)
    places = torch.arange(batch_size, device=rows.device)
    places[rows] = torch.arange(batch_size, batch_size + len(rows), device=rows.device)
    return places
