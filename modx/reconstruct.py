"""MultiLevelReconstructor: rebuild the complete views from the corrupted ones, at three levels."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check_dtype, check_features, check_names, check_sizes
from .disentangle import Disentangled
from .experts import Experts
from .ops import expert_mixture

LEVELS = ("input", "disentangled", "joint")


class Reconstruction(NamedTuple):
    """Reconstructed views (B, N_m, D) keyed by modality; None for a level left out."""

    input: dict[str, Tensor] | None
    private: dict[str, Tensor] | None
    shared: dict[str, Tensor] | None
    joint: dict[str, Tensor] | None


class MultiLevelReconstructor(nn.Module):
    """Rebuild complete features and views from corrupted ones, as supervision (MLCR).

    Every modality has its own two-layer networks: R1 rebuilds its features from themselves ("input", eq. 6), R2
    its private and its shared view, each from itself ("disentangled", eq. 8), R3 its features from both views
    side by side ("joint", eq. 10; D_in = 2 D and twice the hidden units). DERL, Li et al. What they rebuild is
    compared with the complete input by :func:`modx.losses.reconstruction_loss`.

    Args:
        modalities: names, as given to :class:`modx.HybridExpertDisentangler`.
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
        modalities: Sequence[str],
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

    def forward(self, features: Mapping[str, Tensor], disentangled: Disentangled) -> Reconstruction:
        """Rebuild the levels asked for.

        Args:
            features: ``(B, N_m, D)`` for every modality m, from the corrupted input.
            disentangled: the views of those features.

        Raises:
            ValueError: a modality is missing, unknown, or of the wrong width or dtype.
        """
        dims, dtype = dict.fromkeys(self.modalities, self.dim), next(self.parameters()).dtype
        if not isinstance(disentangled, Disentangled):
            raise TypeError(
                f"MultiLevelReconstructor expected disentangled: a Disentangled, got {type(disentangled).__name__}; "
                "pass what HybridExpertDisentangler returns."
            )
        parts = {"features": features, "private": disentangled.private, "shared": disentangled.shared}
        for argument, part in parts.items():
            check_features("MultiLevelReconstructor", part, dims, dtype, argument)
        for name in self.modalities:
            shapes = disentangled.private[name].shape, disentangled.shared[name].shape
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"MultiLevelReconstructor expected disentangled views of {name!r} of one shape, got "
                    f"{tuple(shapes[0])} and {tuple(shapes[1])}; pass both views of the same tokens."
                )
        private = [disentangled.private[name] for name in self.modalities]
        shared = [disentangled.shared[name] for name in self.modalities]
        rebuilt: dict[str, list[Tensor]] = {}
        if "input" in self.levels:
            rebuilt["input"] = self._run("input", [features[name] for name in self.modalities])
        if "disentangled" in self.levels:
            both = self._run("disentangled", private + shared)
            rebuilt["private"], rebuilt["shared"] = both[: len(private)], both[len(private) :]
        if "joint" in self.levels:
            pairs = [torch.cat(pair, dim=-1) for pair in zip(private, shared, strict=True)]
            rebuilt["joint"] = self._run("joint", pairs)
        return Reconstruction(
            *(
                dict(zip(self.modalities, rebuilt[field], strict=True)) if field in rebuilt else None
                for field in Reconstruction._fields
            )
        )

    def _run(self, level: str, inputs: list[Tensor]) -> list[Tensor]:
        """One network an input: each a group with one private expert of weight 1."""
        bank = self.networks[level]
        assert isinstance(bank, Experts)
        tokens = [part.flatten(0, 1) for part in inputs]
        sizes = [part.shape[0] for part in tokens]
        output, _ = expert_mixture(
            torch.cat(tokens),
            None,
            bank.w1,
            bank.b1,
            bank.w2,
            bank.b2,
            group_sizes=sizes,
            num_private=1,
            num_shared=0,
            activation=bank.activation,
        )
        return [part.unflatten(0, like.shape[:2]) for part, like in zip(output.split(sizes), inputs, strict=True)]

    def extra_repr(self) -> str:
        return f"{self.modalities}, levels={self.levels}"
