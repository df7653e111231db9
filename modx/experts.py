"""Experts: the bank of two-layer MLPs that all other modules use."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ._checks import check, check_choice, check_layer, check_range, check_shapes
from .ops import expert_mixture
from .ops.activations import ACTIVATIONS
from .ops.dispatch import IMPLEMENTATIONS

Group = TypeVar("Group", bound=Hashable)


class Experts(nn.Module):
    """Return the weighted sum of a bank of two-layer MLPs.

    Args:
        num_experts: E, number of MLPs in the bank.
        in_dim: D_in, width of a token.
        hidden_dim: H, hidden units of each MLP.
        out_dim: D_out, width of an output. Default: ``in_dim``.
        activation: "gelu" (exact), "gelu_tanh", "relu" or "silu".
        dropout: Dropout probability of the results.
        implementation: Passed to :func:`modx.ops.expert_mixture`.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Attributes:
        w1: ``(E, H, D_in)``, in the layout of :func:`modx.ops.expert_mixture`.
        b1: ``(E, H)``.
        w2: ``(E, H, D_out)``.
        b2: ``(E, D_out)``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range or unknown.

    Example:
        >>> experts = Experts(3, 8, 16)
        >>> experts(torch.randn(2, 5, 8), torch.rand(2, 5, 3)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        num_experts: int,
        in_dim: int,
        hidden_dim: int,
        out_dim: int | None = None,
        *,
        activation: str = "gelu",
        dropout: float = 0.0,
        implementation: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_dim = in_dim if out_dim is None else out_dim
        check_layer(self, dtype, num_experts=num_experts, in_dim=in_dim, hidden_dim=hidden_dim, out_dim=out_dim)
        check_choice(self, ACTIVATIONS, activation=activation)
        check_choice(self, IMPLEMENTATIONS, implementation=implementation)
        check_range(self, 0.0, 1.0, dropout=dropout)
        self.activation = activation
        self.implementation = implementation
        self.dropout = nn.Dropout(dropout)
        self.w1 = nn.Parameter(torch.empty(num_experts, hidden_dim, in_dim, device=device, dtype=dtype))
        self.b1 = nn.Parameter(torch.empty(num_experts, hidden_dim, device=device, dtype=dtype))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden_dim, out_dim, device=device, dtype=dtype))
        self.b2 = nn.Parameter(torch.empty(num_experts, out_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize every expert like two ``nn.Linear`` layers: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
        _, hidden_dim, in_dim = self.w1.shape
        for parameter, fan_in in (
            (self.w1, in_dim),
            (self.b1, in_dim),
            (self.w2, hidden_dim),
            (self.b2, hidden_dim),
        ):
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)

    def forward(
        self,
        x: Tensor,
        router_weights: Tensor | None = None,
        *,
        group_sizes: Sequence[int] | None = None,
        num_private: int = 0,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the weighted sum of the experts' outputs.

        With ``group_sizes``, each group of tokens uses its own private experts and the shared experts, and the two
        sums are returned separately. Without it, every token uses every expert.

        Args:
            x: Tokens, ``(..., D_in)``. With ``group_sizes``: ``(T, D_in)``, group after group.
            router_weights: ``(..., E)``. With ``group_sizes``: ``(T, P + S)``, private experts first. Default: every
                weight is 1.
            group_sizes: Number of tokens per group. Default: no groups.
            num_private: P, private experts per group. They come first in the bank, group after group; the remaining
                S experts are shared.

        Returns:
            ``(..., D_out)``. With ``group_sizes``: a pair of ``(T, D_out)``, the sums over private and shared experts.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A shape, dtype or count does not match.
        """
        num_experts, _, in_dim = self.w1.shape
        check_range(self, 0, num_private=num_private)
        if group_sizes is not None:
            return self._run(x, router_weights, group_sizes, num_private)
        check(not num_private, self, "num_private == 0 without group_sizes", num_private, "pass group_sizes")
        known, weights = {"D_in": in_dim, "E": num_experts}, router_weights
        check_shapes(self, known, self.w1.dtype, x=(x, "... D_in"), router_weights=(weights, "any ... E?"))
        tokens = x.reshape(-1, in_dim)
        weights = None if weights is None else weights.reshape(-1, num_experts)
        return self._run(tokens, weights, [tokens.shape[0]], 0)[1].reshape(*x.shape[:-1], self.w2.shape[2])

    def _run(
        self, x: Tensor, router_weights: Tensor | None, group_sizes: Sequence[int], num_private: int
    ) -> tuple[Tensor, Tensor]:
        num_groups = len(group_sizes) if isinstance(group_sizes, Collection) else 0  # the op raises
        private, shared = expert_mixture(
            x,
            router_weights,
            self.w1,
            self.b1,
            self.w2,
            self.b2,
            group_sizes=group_sizes,
            num_private=num_private,
            num_shared=self.w1.shape[0] - num_groups * num_private,
            activation=self.activation,
            implementation=self.implementation,
        )
        return self.dropout(private), self.dropout(shared)

    def extra_repr(self) -> str:
        num_experts, hidden_dim, in_dim = self.w1.shape
        out_dim = self.w2.shape[2]
        return f"{num_experts}, {in_dim}, {hidden_dim}, {out_dim}, activation={self.activation!r}"


def by_group(
    experts: nn.Module,
    parts: Mapping[Group, Tensor],
    router_weights: Mapping[Group, Tensor] | None,
    groups: Sequence[Group],
    num_private: int,
) -> tuple[dict[Group, Tensor], dict[Group, Tensor]]:
    """Run the tokens ``(..., D_in)`` of several groups through one bank; a group missing from ``parts`` has no tokens.

    Returns:
        Two mappings, the sums over private and over shared experts: ``(..., D_out)`` per group in ``parts``.
    """
    tokens = {group: parts[group].flatten(0, -2) for group in groups if group in parts}
    sizes = [tokens[group].shape[0] if group in tokens else 0 for group in groups]
    weights = None if router_weights is None else torch.cat([router_weights[group].flatten(0, -2) for group in tokens])
    views = experts(torch.cat(list(tokens.values())), weights, group_sizes=sizes, num_private=num_private)
    private, shared = (
        {
            group: part.unflatten(0, parts[group].shape[:-1])
            for group, part in zip(groups, view.split(sizes), strict=True)
            if group in tokens
        }
        for view in views
    )
    return private, shared
