"""Router: the weights that a token gives to its experts."""

import math

import torch
from torch import Tensor, nn

from ._checks import check_layer, check_range, check_shapes, message
from ._modalities import reset_children
from .experts import Experts

# Training can drive a temperature toward 0. Its inverse scales the gradients, and below the smallest normal float16 it
# would overflow half precision. At this limit, logits 0.001 apart already differ by a factor of e^16 in weight.
LEAST_TEMPERATURE = 2.0**-14


class Router(nn.Module):
    r"""Weight experts by a softmax with a learnable temperature.

    :math:`w = \mathrm{softmax}(z / \tau)`, where a linear layer or a two-layer MLP computes the logits z (eq. 3 and 14
    of DERL, Li et al.). The temperature is stored as its logarithm, so it stays positive, and is clamped to at least
    2⁻¹⁴. The softmax runs in float32 or wider.

    With ``top_k``, a token gives weight to the k experts with the largest logits only, and the softmax runs over these
    k (Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", equations 3
    and 5, without noise). This saves no time: :func:`modx.ops.expert_mixture` is dense and also computes experts of
    weight 0.

    Args:
        dim: D, width of a token.
        num_experts: K, number of experts.
        hidden_dim: Hidden units of a two-layer MLP. Default: a single linear layer.
        temperature: Initial temperature. Default: ``1 / num_experts``.
        top_k: Number of experts that get weight. Default: all.
        device: Device of the parameters. Default: PyTorch's default device.
        dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.

    Example:
        >>> weights = Router(8, 4)(torch.randn(2, 5, 8))
        >>> weights.shape, bool(weights.sum(-1).allclose(torch.ones(2, 5)))
        (torch.Size([2, 5, 4]), True)
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        *,
        hidden_dim: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_layer(self, dtype, dim=dim, num_experts=num_experts, hidden_dim=1 if hidden_dim is None else hidden_dim)
        self.initial_temperature = 1 / num_experts if temperature is None else temperature
        check_range(self, LEAST_TEMPERATURE, temperature=self.initial_temperature)
        check_range(self, 1, num_experts, top_k=1 if top_k is None else top_k)
        self.dim, self.num_experts, self.top_k = dim, num_experts, top_k
        self.logits: nn.Module
        if hidden_dim is None:
            self.logits = nn.Linear(dim, num_experts, device=device, dtype=dtype)
        else:
            self.logits = Experts(1, dim, hidden_dim, num_experts, device=device, dtype=dtype)
        self.log_temperature = nn.Parameter(torch.empty(1, device=device, dtype=dtype))  # FSDP2 shards no scalar
        self._reset_temperature()

    def reset_parameters(self) -> None:
        """Reinitialize the weights and reset the temperature to its initial value."""
        reset_children(self)
        self._reset_temperature()

    def _reset_temperature(self) -> None:
        nn.init.constant_(self.log_temperature, math.log(self.initial_temperature))

    @property
    def temperature(self) -> Tensor:
        """The temperature of the softmax, at least 2⁻¹⁴."""
        return self._log_temperature().exp().squeeze(0)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Compute every token's weights over the experts.

        Args:
            x: Tokens, ``(..., D)``.
            present: Bool, broadcastable to ``(..., K)``. An expert marked False gets weight 0; where all are False,
                every weight is 0 and the token is never read. Default: all experts are present.

        Returns:
            Weights, ``(..., K)``, non-negative. They sum to 1 over the experts that are present, or over the
            ``top_k`` of them with the largest logits.

        Raises:
            TypeError: An argument is not a tensor.
            ValueError: A shape or dtype does not match.
        """
        check_shapes(self, {"D": self.dim}, self.log_temperature.dtype, x=(x, "... D"))
        if present is not None:
            check_shapes(self, present=(present, "bool ..."))
            shape = (*x.shape[:-1], self.num_experts)
            sides = zip(reversed(present.shape), reversed(shape), strict=False)
            if present.ndim > len(shape) or any(side not in (1, full) for side, full in sides):
                raise ValueError(message(self, f"present of a shape that broadcasts to {shape}", tuple(present.shape)))
            x = torch.where(present.any(-1, keepdim=True), x, 0)
        logits: Tensor = self.logits(x)
        dtype = torch.promote_types(logits.dtype, self.log_temperature.dtype)
        wide = torch.promote_types(dtype, torch.float32)
        logits = logits.to(wide) * torch.exp(-self._log_temperature().to(wide))
        lowest = torch.finfo(wide).min
        if self.top_k is not None:
            ranked = logits if present is None else logits.masked_fill(~present, lowest)
            top = torch.zeros_like(ranked, dtype=torch.bool).scatter(-1, ranked.topk(self.top_k).indices, True)
            present = top if present is None else top & present
        if present is None:
            return logits.softmax(-1).to(dtype)
        return logits.masked_fill(~present, lowest).softmax(-1).masked_fill(~present, 0).to(dtype)

    def _log_temperature(self) -> Tensor:
        return self.log_temperature.clamp(min=math.log(LEAST_TEMPERATURE))

    def extra_repr(self) -> str:
        top_k = "" if self.top_k is None else f", top_k={self.top_k}"
        return f"{self.dim}, {self.num_experts}, init_temperature={self.initial_temperature:.4g}{top_k}"
