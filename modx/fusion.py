"""ModalityRouter: weigh several views token by token and sum them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._checks import check_dtype, check_floating, check_mask, check_sizes, check_tensor
from .router import Router


class Fused(NamedTuple):
    """``features`` (B, N, D), the weighted sum; ``router_weights`` (B, N, num_inputs), the weights."""

    features: Tensor
    router_weights: Tensor


class ModalityRouter(nn.Module):
    r"""Weigh the inputs for every token from all of them side by side, and sum them by weight (MRF).

    :math:`w = \mathrm{softmax}(\mathrm{MLP}([x_1; \ldots; x_I]) / \tau)`, :math:`y = \sum_i w_i x_i`: eq. 13-15 of
    DERL (Li et al.), where the inputs are the private and shared views of all modalities.

    Args:
        num_inputs: I, how many inputs are fused.
        dim: D, width of a token.
        hidden_dim: hidden units of the router's MLP.
        temperature: where the temperature starts; None: ``1 / num_inputs``.

    Example:
        >>> fuse = ModalityRouter(2, dim=8, hidden_dim=16)
        >>> fused = fuse([torch.randn(3, 4, 8), torch.randn(3, 4, 8)])
        >>> fused.features.shape, fused.router_weights.shape
        (torch.Size([3, 4, 8]), torch.Size([3, 4, 2]))
    """

    def __init__(
        self,
        num_inputs: int,
        dim: int,
        hidden_dim: int,
        *,
        temperature: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes("ModalityRouter", num_inputs=num_inputs, dim=dim, hidden_dim=hidden_dim)
        check_dtype("ModalityRouter", dtype)
        self.num_inputs = num_inputs
        self.dim = dim
        self.router = Router(
            num_inputs * dim,
            num_inputs,
            hidden_dim=hidden_dim,
            temperature=temperature,
            device=device,
            dtype=dtype,
        )

    def forward(self, features: Mapping[str, Tensor] | Sequence[Tensor], present: Tensor | None = None) -> Fused:
        """Fuse the inputs.

        Args:
            features: ``num_inputs`` tensors ``(B, N, D)``; of a mapping, its values in their order.
            present: bool ``(B, num_inputs)``, False for an input that is absent: it gets weight 0 and nothing in
                it, nan included, is seen. Where all are absent the result is zeros. None: all are present.

        Raises:
            ValueError: the number of inputs, a shape or the dtype of ``present`` does not fit.
        """
        if not isinstance(features, Mapping | Sequence):
            raise TypeError(
                f"ModalityRouter expected features: a mapping or a sequence of tensors, got {type(features).__name__}; "
                "list them, or unbind a stack of them."
            )
        inputs = list(features.values() if isinstance(features, Mapping) else features)
        if len(inputs) != self.num_inputs:
            raise ValueError(
                f"ModalityRouter expected {self.num_inputs} inputs, got {len(inputs)}; "
                "pass zeros for one that is missing and mark it absent in present."
            )
        for index, part in enumerate(inputs):
            check_tensor("ModalityRouter", f"input {index} of features", part)
        shape = (*inputs[0].shape[:2], self.dim)
        for index, part in enumerate(inputs):
            if len(shape) != 3 or tuple(part.shape) != shape:
                raise ValueError(
                    f"ModalityRouter expected input {index} of shape {shape}, got {tuple(part.shape)}; "
                    "all inputs need one shape, so pad or project them."
                )
            check_floating("ModalityRouter", f"input {index}", part, self.router.log_temperature.dtype)
        stacked = torch.stack(inputs, dim=2)  # (B, N, I, D)
        if present is not None:
            check_mask("ModalityRouter", "present", present, (shape[0], self.num_inputs))
            present = present[:, None, :]
            stacked = stacked.masked_fill(~present[..., None], 0)
        weights = self.router(stacked.flatten(2), present)
        return Fused((weights[..., None] * stacked).sum(2), weights)

    def extra_repr(self) -> str:
        return f"{self.num_inputs}, {self.dim}"
