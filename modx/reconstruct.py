"""MultiLevelReconstructor: rebuild complete features and views from corrupted ones, at three levels."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check, check_layer, check_type
from ._modalities import ModalityModule, check_names, dtype_of, hide, read_parts
from .disentangle import Disentangled
from .experts import Experts, Group, by_group

LEVELS = ("input", "disentangled", "joint")


class Reconstruction(NamedTuple):
    """Reconstructed features and views (B, N_m, D) by modality; None for a level that was not requested."""

    input: dict[str, Tensor] | None
    private: dict[str, Tensor] | None
    shared: dict[str, Tensor] | None
    joint: dict[str, Tensor] | None


class MultiLevelReconstructor(ModalityModule):
    """Rebuild complete features and views from corrupted ones (MLCR of DERL, Li et al.).

    It supervises training: :func:`modx.losses.reconstruction_loss` compares the result with the complete input. Every
    modality has its own two-layer networks, at three levels:

    - "input": R1 rebuilds the features from the corrupted features (eq. 6).
    - "disentangled": R2 rebuilds each view from the same corrupted view (eq. 8).
    - "joint": R3 rebuilds the features from both corrupted views, concatenated to width 2 D (eq. 10).

    Args:
        modalities: Names of the modalities, in any order. Weights are stored in the sorted order of the names.
        dim: D, width of a token.
        hidden_dim: Hidden units of R1 and R2; R3 has twice as many.
        levels: Levels to rebuild, one or more of "input", "disentangled" and "joint".
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range or unknown, or a name is invalid.

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
        expected = f"levels to be one or more of {LEVELS}"
        check(known and levels, self, expected, levels, "to reconstruct none, leave the block out")
        self.dim = dim
        self.levels = tuple(levels)
        count = len(self.modalities)
        banks = {
            "input": (count, dim, hidden_dim),
            "disentangled": (2 * count, dim, hidden_dim),  # networks of the private views, then of the shared views
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
        """Rebuild the requested levels.

        Args:
            features: Features of the corrupted input: ``(B, N_m, D)`` per modality m, or ``(B, D)`` for one token. A
                modality that is None or left out is left out of the result.
            disentangled: Views of these features.
            present: Bool ``(B,)`` or ``(B, N_m)`` per modality, False where it is absent. There, the result is zeros,
                and features and views are never read, so they may hold NaN. Default: everything is present.

        Returns:
            Reconstructed features and views by level and modality.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A modality is unknown, there are no modalities, or a shape or dtype does not match.
        """
        check_type(self, Disentangled, disentangled=disentangled)
        dims, dtype = dict.fromkeys(self.modalities, self.dim), dtype_of(self)
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
        """Run each group through its own network. To the op, this network is the group's only private expert."""
        return by_group(self.networks[level], inputs, None, groups, 1)[0]

    def extra_repr(self) -> str:
        return f"{self.modalities}, {self.dim}, levels={self.levels}"
