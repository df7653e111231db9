"""MultiLevelReconstructor: rebuild the complete views from the corrupted ones, at three levels."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check, check_layer, check_type
from ._modalities import ModalityModule, check_names, hide, read_parts
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
        self.modalities = check_names(self, modalities)
        check_layer(self, dtype, dim=dim, hidden_dim=hidden_dim)
        known = isinstance(levels, Collection) and all(level in LEVELS for level in levels)
        check(known and levels, self, f"levels: one or more of {LEVELS}", levels, "to rebuild nothing, leave it out")
        self.dim = dim
        self.levels = tuple(levels)
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
        check_type(self, Disentangled, disentangled=disentangled)
        dims, dtype = dict.fromkeys(self.modalities, self.dim), next(self.parameters()).dtype
        given = {"features": features, "private": disentangled.private, "shared": disentangled.shared}
        (x, private, shared), there = read_parts(self, present, dims, dtype, **given)
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
        shown = {field: hide(part, there) for field, part in rebuilt.items()}
        return Reconstruction(
            input=shown.get("input"),
            private=shown.get("private"),
            shared=shown.get("shared"),
            joint=shown.get("joint"),
        )

    def _run(self, level: str, inputs: Mapping[Group, Tensor], groups: Sequence[Group]) -> dict[Group, Tensor]:
        """One network per group: its one private expert, of weight 1."""
        return by_group(self.networks[level], inputs, None, groups, 1)[0]

    def extra_repr(self) -> str:
        return f"{self.modalities}, {self.dim}, levels={self.levels}"
