"""ModalityRouter: fuse the views of all modalities by a weighted sum per token."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import check, check_layer, check_shapes
from ._modalities import ModalityModule, check_names, dtype_of, read_parts
from .router import Router


class Fused(NamedTuple):
    """``features`` (B, N, D), the weighted sum; ``router_weights``, one mapping per view, from modality to (B, N)."""

    features: Tensor
    router_weights: tuple[dict[str, Tensor], ...]


class ModalityRouter(ModalityModule):
    r"""Fuse the views of all modalities into one sequence by a weighted sum per token (DERL, Li et al.).

    :math:`w = \mathrm{softmax}(\mathrm{MLP}([x_1; \ldots; x_I]) / \tau)` and :math:`y = \sum_i w_i x_i` (eq. 13-15).
    The inputs :math:`x_1, \ldots, x_I` are all views of all modalities. They are concatenated in order of
    view, and within a view in alphabetical order of modality name.

    Args:
        modalities: Names of the modalities, in any order.
        dim: D, width of a token.
        hidden_dim: Hidden units of the router's MLP.
        num_views: Number of views per modality.
        temperature: Initial temperature. Default: ``1 / (num_views * len(modalities))``.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or a name is invalid.

    Example:
        >>> fuse = ModalityRouter(("text", "audio"), dim=8, hidden_dim=16, num_views=1)
        >>> fused = fuse({"text": torch.randn(3, 4, 8), "audio": torch.randn(3, 4, 8)})
        >>> fused.features.shape, fused.router_weights[0]["audio"].shape
        (torch.Size([3, 4, 8]), torch.Size([3, 4]))
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int,
        hidden_dim: int,
        *,
        num_views: int = 2,
        temperature: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.modalities = check_names(self, modalities)
        check_layer(self, dtype, dim=dim, hidden_dim=hidden_dim, num_views=num_views)
        self.dim = dim
        self.num_views = num_views
        num_inputs = num_views * len(self.modalities)
        self.router = Router(
            num_inputs * dim,
            num_inputs,
            hidden_dim=hidden_dim,
            temperature=temperature,
            device=device,
            dtype=dtype,
        )

    def forward(self, *views: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Fused:
        """Fuse the views, e.g. ``fuse(split.private, split.shared)``.

        Args:
            views: ``num_views`` mappings from modality to ``(B, N, D)``, or ``(B, D)`` for one token; all have the same
                keys. A modality that is None or left out counts as absent.
            present: Bool ``(B,)`` or ``(B, N)`` per modality, False where it is absent. There, it gets weight 0 and is
                never read, so it may hold NaN. Default: everything is present.

        Returns:
            Fused features, zeros where all modalities are absent, and the router weights.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The number of views is wrong, a modality is unknown, there are no modalities, views differ in
                modalities or number of tokens, or a shape or dtype does not match.
        """
        dims, dtype = dict.fromkeys(self.modalities, self.dim), dtype_of(self)
        check(len(views) == self.num_views, self, f"{self.num_views} views", len(views), "pass one mapping per view")
        given = {f"views[{number}]": view for number, view in enumerate(views)}
        parts, there = read_parts(self, present, dims, dtype, **given)
        check_shapes(self, **{f"views[{name!r}]": (part, "B N D") for name, part in parts[0].items()})
        left_out = torch.zeros_like(next(iter(parts[0].values())))
        inputs = [view.get(name, left_out) for view in parts for name in dims]
        stacked = torch.stack(inputs, dim=2)  # (B, N, I, D)
        shown = None
        if there or len(parts[0]) < len(dims):
            every = stacked.new_ones(stacked.shape[:2], dtype=torch.bool)
            columns = [there.get(name, every) if name in parts[0] else ~every for name in dims]
            shown = torch.stack(columns * self.num_views, dim=2)
        weights = self.router(stacked.flatten(2), shown)
        each = weights.unflatten(2, (self.num_views, -1)).unbind(2)
        by_name = tuple({name: w[..., i] for i, name in enumerate(dims) if name in parts[0]} for w in each)
        return Fused((weights[..., None] * stacked).sum(2), by_name)

    def extra_repr(self) -> str:
        return f"{self.modalities}, {self.dim}, num_views={self.num_views}"
