"""MultiLevelReconstructor: rebuild the complete views from the corrupted ones, at three levels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check_dtype, check_sizes
from ._modalities import ModalityModule, check_features, check_names, check_present, hide
from .disentangle import Disentangled
from .experts import Experts, Group, by_group

LEVELS = ("input", "disentangled", "joint")


class Reconstruction(NamedTuple):
    """Reconstructed views (B, N_m, D) keyed by modality; None for a level left out."""

    input: dict[str, Tensor] | None
    private: dict[str, Tensor] | None
    shared: dict[str, Tensor] | None
    joint: dict[str, Tensor] | None


class MultiLevelReconstructor(ModalityModule):
    """Rebuild complete features and views from corrupted ones, as supervision (MLCR).

    Every modality has its own two-layer networks: R1 rebuilds its features from themselves ("input", eq. 6), R2
    its private and its shared view, each from itself ("disentangled", eq. 8), R3 its features from both views
    side by side ("joint", eq. 10; D_in = 2 D and twice the hidden units). DERL, Li et al. What they rebuild is
    compared with the complete input by :func:`modx.losses.reconstruction_loss`.

    Args:
        modalities: Names, whose order does not matter; each bank holds their networks by sorted name.
        dim: D, width of a token.
        hidden_dim: hidden units of R1 and R2; R3 has twice as many.
        levels: which of "input", "disentangled" and "joint" to rebuild.

    Example:
        >>> from modx import HybridExpertDisentangler
        >>> features = {"text": torch.randn(2, 4, 8), "audio": torch.randn(2, 4, 8)}
        >>> views = HybridExpertDisentangler(("text", "audio"), 8, 16)(features)
        >>> rebuilt = MultiLevelReconstructor(("text", "audio"), 8, 8)(features, views)
        >>> rebuilt.joint["audio"].shape
        torch.Size([2, 4, 8])
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int,
        hidden_dim: int,
        *,
        levels: Sequence[str] = LEVELS,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.modalities = check_names("MultiLevelReconstructor", modalities)
        check_sizes("MultiLevelReconstructor", dim=dim, hidden_dim=hidden_dim)
        check_dtype("MultiLevelReconstructor", dtype)
        self.dim = dim
        self.levels = (levels,) if isinstance(levels, str) else tuple(levels) if isinstance(levels, Iterable) else ()
        if not self.levels or any(level not in LEVELS for level in self.levels):
            raise ValueError(
                f"MultiLevelReconstructor expected levels: one or more of {LEVELS}, got {levels!r}; "
                "to rebuild nothing, leave the module out."
            )
        count = len(self.modalities)
        banks = {
            "input": (count, dim, hidden_dim),
            "disentangled": (2 * count, dim, hidden_dim),  # private networks, then shared ones
            "joint": (count, 2 * dim, 2 * hidden_dim),
        }
        self.networks = nn.ModuleDict(
            {
                level: Experts(*banks[level], out_dim=dim, device=device, dtype=dtype)
                for level in LEVELS
                if level in self.levels
            }
        )

    def forward(
        self,
        features: Mapping[str, Tensor],
        disentangled: Disentangled,
        present: Mapping[str, Tensor] | None = None,
    ) -> Reconstruction:
        """Rebuild the levels asked for.

        Args:
            features: ``(B, N_m, D)`` per modality m, or ``(B, D)`` for one token, from the corrupted input. A modality
                that is left out, or None, is left out of the result.
            disentangled: The views of those features.
            present: Bool ``(B,)`` or ``(B, N_m)`` per modality, False where it is absent: what is rebuilt is zeros
                there, and features and views are not read and may be NaN. None: everything is present.

        Raises:
            ValueError: a modality is unknown, none is given, or a shape or a dtype does not fit.
        """
        owner, dtype = "MultiLevelReconstructor", next(self.parameters()).dtype
        if not isinstance(disentangled, Disentangled):
            raise TypeError(
                f"{owner} expected disentangled: a Disentangled, got {type(disentangled).__name__}; "
                "pass what HybridExpertDisentangler returns."
            )
        given = {"features": features, "private": disentangled.private, "shared": disentangled.shared}
        dims = dict.fromkeys(self.modalities, self.dim)
        parts = {argument: check_features(owner, part, dims, dtype, argument) for argument, part in given.items()}
        shapes = [{name: tuple(x.shape) for name, x in part.items()} for part in parts.values()]
        if shapes[1:] != shapes[:-1]:
            raise ValueError(
                f"{owner} expected disentangled views of the shapes of the features, {shapes[0]}, got {shapes[1]} and "
                f"{shapes[2]}; pass the views of the same tokens."
            )
        there = check_present(owner, present, parts["features"])
        x, private, shared = (hide(part, there) for part in parts.values())
        rebuilt: dict[str, dict[str, Tensor]] = {}
        if "input" in self.levels:
            rebuilt["input"] = self._run("input", x, self.modalities)
        if "disentangled" in self.levels:
            views = {"private": private, "shared": shared}
            groups = [(view, name) for view in views for name in self.modalities]
            both = self._run("disentangled", {(view, name): views[view][name] for view in views for name in x}, groups)
            rebuilt |= {view: {name: both[view, name] for name in x} for view in views}
        if "joint" in self.levels:
            pairs = {name: torch.cat([private[name], shared[name]], dim=-1) for name in x}
            rebuilt["joint"] = self._run("joint", pairs, self.modalities)
        return Reconstruction(
            *(hide(rebuilt[field], there) if field in rebuilt else None for field in Reconstruction._fields)
        )

    def _run(self, level: str, inputs: Mapping[Group, Tensor], groups: Sequence[Group]) -> dict[Group, Tensor]:
        """One network per group: its one private expert, of weight 1."""
        return by_group(self.networks[level], inputs, None, groups, 1)[0]

    def extra_repr(self) -> str:
        return f"{self.modalities}, levels={self.levels}"
