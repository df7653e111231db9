"""Experts: the bank of two-layer MLPs behind every expert, reconstructor, router and feed-forward layer."""

import torch
from torch import Tensor, nn

from ._checks import check_choice, check_dtype, check_sizes, check_tensor, check_tokens
from .ops import expert_mixture
from .ops.activations import ACTIVATIONS


class Experts(nn.Module):
    """A bank of two-layer MLPs; called, it gives their weighted sum.

    Args:
        num_experts: E, MLPs in the bank.
        in_dim: D_in, width of a token.
        hidden_dim: H, hidden units of each MLP.
        out_dim: D_out; None: ``in_dim``.
        activation: "gelu" (exact), "gelu_tanh", "relu" or "silu".

    Attributes:
        w1: ``(E, H, D_in)``, as :func:`modx.ops.expert_mixture` takes it; each expert starts as two ``nn.Linear`` do.
        b1: ``(E, H)``.
        w2: ``(E, H, D_out)``.
        b2: ``(E, D_out)``.

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_dim = in_dim if out_dim is None else out_dim
        check_sizes("Experts", num_experts=num_experts, in_dim=in_dim, hidden_dim=hidden_dim, out_dim=out_dim)
        check_choice("Experts", "activation", activation, ACTIVATIONS)
        check_dtype("Experts", dtype)
        self.activation = activation
        self.w1 = nn.Parameter(torch.empty(num_experts, hidden_dim, in_dim, device=device, dtype=dtype))
        self.b1 = nn.Parameter(torch.empty(num_experts, hidden_dim, device=device, dtype=dtype))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden_dim, out_dim, device=device, dtype=dtype))
        self.b2 = nn.Parameter(torch.empty(num_experts, out_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every expert as two ``nn.Linear`` draw themselves: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
        _, hidden_dim, in_dim = self.w1.shape
        for parameter, fan_in in (
            (self.w1, in_dim),
            (self.b1, in_dim),
            (self.w2, hidden_dim),
            (self.b2, hidden_dim),
        ):
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)

    def forward(self, x: Tensor, router_weights: Tensor | None = None) -> Tensor:
        """Sum the experts' outputs by weight.

        Args:
            x: ``(..., D_in)``.
            router_weights: ``(..., E)``; None: every weight is 1.

        Returns:
            ``(..., D_out)``.

        Raises:
            ValueError: a shape or a dtype does not fit.
        """
        check_tokens("Experts", "x", x, self.w1.shape[2], self.w1.dtype)
        if router_weights is not None:
            check_tensor("Experts", "router_weights", router_weights)
            if router_weights.shape != (*x.shape[:-1], self.w1.shape[0]):
                raise ValueError(
                    f"Experts expected router_weights of shape {(*x.shape[:-1], self.w1.shape[0])}, "
                    f"got {tuple(router_weights.shape)}; give every token of x one weight an expert."
                )
        tokens = x.reshape(-1, x.shape[-1])
        _, mixed = expert_mixture(
            tokens,
            None if router_weights is None else router_weights.reshape(-1, router_weights.shape[-1]),
            self.w1,
            self.b1,
            self.w2,
            self.b2,
            group_sizes=[tokens.shape[0]],
            num_private=0,
            num_shared=self.w1.shape[0],
            activation=self.activation,
        )
        return mixed.reshape(*x.shape[:-1], self.w2.shape[2])

    def extra_repr(self) -> str:
        num_experts, hidden_dim, in_dim = self.w1.shape
        out_dim = self.w2.shape[2]
        return f"{num_experts}, {in_dim}, {hidden_dim}, {out_dim}, activation={self.activation!r}"
