"""HybridExpertDisentangler: split every token into a private and a shared view."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check_range
from ._modalities import ModalityModule, check_names, dtype_of, read_parts
from .experts import Experts, by_group
from .router import Router


class Disentangled(NamedTuple):
    """Mappings by modality: ``private`` and ``shared`` views (B, N_m, D) and ``router_weights`` (B, N_m, P + S)."""

    private: dict[str, Tensor]
    shared: dict[str, Tensor]
    router_weights: dict[str, Tensor]


class HybridExpertDisentangler(ModalityModule):
    r"""Split every token into a private and a shared view with a mixture of experts (HED of DERL, Li et al.).

    Each modality has a router, P private experts and S experts that it shares with the others. The router computes one
    softmax over these P + S experts (eq. 3). The private view is the weighted sum over the private experts, the shared
    view the weighted sum over the shared experts (eq. 4).

    Args:
        modalities: Names of the modalities, in any order. Private experts are stored in sorted order of these names.
        dim: D, width of a token.
        hidden_dim: H, hidden units of each expert.
        num_private_experts: P, private experts per modality.
        num_shared_experts: S, experts shared across modalities.
        router_hidden_dim: Hidden units of the routers. Default: linear routers.
        temperature: Initial temperature of the routers. Default: ``1 / (P + S)``.
        top_k: Passed to every :class:`Router`. Default: a token's weights are spread over all P + S experts.
        activation: Activation of the experts: "gelu" (exact), "gelu_tanh", "relu" or "silu".
        dropout: Dropout probability of the views.
        implementation: Passed to :func:`modx.ops.expert_mixture`.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range or unknown, or a name is invalid.

    Example:
        >>> disentangle = HybridExpertDisentangler(("text", "audio"), dim=8, hidden_dim=16)
        >>> views = disentangle({"text": torch.randn(2, 4, 8), "audio": torch.randn(2, 6, 8)})
        >>> views.private["audio"].shape, views.shared["text"].shape, views.router_weights["text"].shape
        (torch.Size([2, 6, 8]), torch.Size([2, 4, 8]), torch.Size([2, 4, 4]))
    """

    def __init__(
        self,
        modalities: Iterable[str],
        dim: int,
        hidden_dim: int,
        *,
        num_private_experts: int = 1,
        num_shared_experts: int = 3,
        router_hidden_dim: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        activation: str = "gelu",
        dropout: float = 0.0,
        implementation: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.modalities = check_names(self, modalities)
        check_range(self, 1, router_hidden_dim=1 if router_hidden_dim is None else router_hidden_dim)
        check_range(self, 0, num_private_experts=num_private_experts, num_shared_experts=num_shared_experts)
        num_experts = num_private_experts + num_shared_experts
        check_range(self, 1, **{"num_private_experts + num_shared_experts": num_experts})
        self.dim = dim
        self.num_private_experts = num_private_experts
        self.num_shared_experts = num_shared_experts
        self.implementation = implementation
        self.routers = nn.ModuleDict(
            {
                name: Router(
                    dim,
                    num_experts,
                    hidden_dim=router_hidden_dim,
                    temperature=temperature,
                    top_k=top_k,
                    device=device,
                    dtype=dtype,
                )
                for name in self.modalities
            }
        )
        self.experts = Experts(
            len(self.modalities) * num_private_experts + num_shared_experts,
            dim,
            hidden_dim,
            activation=activation,
            dropout=dropout,
            implementation=implementation,
            device=device,
            dtype=dtype,
        )

    def forward(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Disentangled:
        """Split features into private and shared views.

        Args:
            features: ``(B, N_m, D)`` per modality m, or ``(B, D)`` for one token; token counts may differ. A modality
                that is None or left out is left out of the result.
            present: Bool ``(B,)`` or ``(B, N_m)`` per modality, False where it is absent. There, views and router
                weights are zeros, and the features are never read, so they may hold NaN. Default: everything is
                present.

        Returns:
            Views and router weights by modality.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: A modality is unknown, there are no modalities, or a shape or dtype does not match.
        """
        dims = dict.fromkeys(self.modalities, self.dim)
        (x,), there = read_parts(self, present, dims, dtype_of(self), features=features)
        weights = {
            name: self.routers[name](part, there[name][..., None] if there else None) for name, part in x.items()
        }
        private, shared = by_group(self.experts, x, weights, self.modalities, self.num_private_experts)
        return Disentangled(private, shared, weights)

    def extra_repr(self) -> str:
        return (
            f"{self.modalities}, dim={self.dim}, num_private_experts={self.num_private_experts}, "
            f"num_shared_experts={self.num_shared_experts}, implementation={self.implementation!r}"
        )
