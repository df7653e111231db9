"""One op under every expert and every two-layer network of the library: a weighted mixture of MLPs.

T tokens, E experts, P private experts a group, S shared experts, H hidden width, D_in and D_out widths.
"""

from collections.abc import Collection, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from .._checks import autocasts, check_choice, check_flag, check_sizes, check_tensor
from . import eager, reference
from .activations import ACTIVATIONS
from .choice import Choice, choose

__all__ = ["expert_mixture", "explain", "Choice"]


def expert_mixture(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str = "gelu",
    implementation: str = "auto",
    least_memory: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Run every token through its group's private experts and through the shared ones, and sum each by weight.

    For token t of group g, with :math:`f_e(x) = \mathrm{act}(x W_{1,e}^\top + b_{1,e}) W_{2,e} + b_{2,e}`:

    .. math::
        \mathrm{private}_t = \sum_{k<P} w_{t,k} f_{gP+k}(x_t), \qquad
        \mathrm{shared}_t = \sum_{k<S} w_{t,P+k} f_{GP+k}(x_t)

    Eq. 4 of DERL (Li et al., "Mixture of Disentangled Experts with Missing Modalities for Robust Multimodal
    Sentiment Analysis").

    Args:
        x: ``(T, D_in)``, the tokens of all groups, group after group.
        router_weights: ``(T, P + S)``, private experts first. None: every weight is 1.
        w1: ``(E, H, D_in)`` with E = len(group_sizes) * P + S: private experts group by group, then the shared.
        b1: ``(E, H)``.
        w2: ``(E, H, D_out)``: hidden unit h reads with row ``w1[e, h]`` and writes with row ``w2[e, h]``.
        b2: ``(E, D_out)``.
        group_sizes: tokens of each group (a modality, as a rule); they sum to T, and a group may be empty.
        num_private: P, private experts of each group.
        num_shared: S, experts that every group uses.
        activation: "gelu" (exact), "gelu_tanh", "relu" or "silu".
        implementation: "auto", "reference", "eager" or "triton"; :func:`explain` tells what "auto" would run.
        least_memory: keep only the inputs for the backward pass and make the hidden layer again, a piece at a time.

    Returns:
        ``(private, shared)``, each ``(T, D_out)``; a sum over no experts is zeros.

    Raises:
        ValueError: a shape, a dtype, a count or a name does not fit, or the implementation asked for cannot run;
            the message says which and what would.
        NotImplementedError: a gradient of ``implementation="triton"`` is differentiated again.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 8)  # three text tokens, two audio tokens
        >>> w1, b1, w2, b2 = torch.randn(3, 16, 8), torch.zeros(3, 16), torch.randn(3, 16, 4), torch.zeros(3, 4)
        >>> weights = torch.full((5, 2), 0.5)  # one private expert each, one shared
        >>> private, shared = expert_mixture(
        ...     x, weights, w1, b1, w2, b2, group_sizes=(3, 2), num_private=1, num_shared=1
        ... )
        >>> private.shape, shared.shape
        (torch.Size([5, 4]), torch.Size([5, 4]))
    """
    inputs = (x, router_weights, w1, b1, w2, b2)
    how: Any = {
        "group_sizes": group_sizes,
        "num_private": num_private,
        "num_shared": num_shared,
        "activation": activation,
    }
    choice = explain(*inputs, **how, implementation=implementation, least_memory=least_memory)
    how["group_sizes"] = list(group_sizes)
    if choice.implementation == "reference":
        return reference.expert_mixture(*inputs, **how)
    how |= {"dtype": _compute_dtype(x), "least_memory": least_memory}
    if choice.implementation == "triton":
        from . import triton

        return triton.expert_mixture(*inputs, **how)
    return eager.expert_mixture(*inputs, **how)


def explain(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    *,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str = "gelu",
    implementation: str = "auto",
    least_memory: bool = False,
) -> Choice:
    """Tell which implementation :func:`expert_mixture` would run for the same arguments, and why.

    Nothing is computed.

    Returns:
        ``(implementation, reason)``, which prints as a sentence.

    Raises:
        ValueError: as :func:`expert_mixture` does.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 8)
        >>> w1, b1, w2, b2 = torch.randn(3, 16, 8), torch.zeros(3, 16), torch.randn(3, 16, 8), torch.zeros(3, 8)
        >>> print(explain(x, None, w1, b1, w2, b2, group_sizes=(3, 2), num_private=1, num_shared=1))
        eager: the kernels need a GPU, and x is on cpu
    """
    _check(x, router_weights, w1, b1, w2, b2, group_sizes, num_private, num_shared, activation)
    _check_memory(implementation, least_memory)
    return choose(implementation, x, w2, _compute_dtype(x), num_private, num_shared)


def _check_memory(implementation: str, least_memory: bool) -> None:
    check_flag("expert_mixture", "least_memory", least_memory)
    if least_memory and implementation == "reference":
        raise ValueError(
            "expert_mixture expected least_memory=False with implementation='reference', which keeps all that it "
            "computes, got True; use implementation='eager'."
        )


def _compute_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    if autocasts(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def _check(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    group_sizes: Sequence[int],
    num_private: int,
    num_shared: int,
    activation: str,
) -> None:
    _check_tensors(x, router_weights, w1, b1, w2, b2)
    _check_counts(x, group_sizes, num_private, num_shared)
    num_experts = len(group_sizes) * num_private + num_shared
    _check_shapes(x, router_weights, w1, b1, w2, b2, num_experts, num_private + num_shared)
    check_choice("expert_mixture", "activation", activation, ACTIVATIONS)


def _check_counts(x: Tensor, group_sizes: Sequence[int], num_private: int, num_shared: int) -> None:
    check_sizes("expert_mixture", 0, num_private=num_private, num_shared=num_shared)
    if not num_private and not num_shared:
        raise ValueError(
            "expert_mixture expected num_private and num_shared to leave at least one expert in all, got "
            "num_private=0, num_shared=0; raise one of them."
        )
    if x.ndim != 2:
        raise ValueError(
            f"expert_mixture expected x of shape (T, D_in), got {tuple(x.shape)}; flatten the leading dimensions."
        )
    if not isinstance(group_sizes, Collection) or not all(isinstance(n, Integral | torch.SymInt) for n in group_sizes):
        raise TypeError(
            f"expert_mixture expected group_sizes: a sequence of ints, got {group_sizes!r}; pass how many tokens each "
            "group has, as in (3, 2)."
        )
    if any(size < 0 for size in group_sizes) or sum(group_sizes) != x.shape[0]:
        raise ValueError(
            f"expert_mixture expected group_sizes that are >= 0 and sum to the {x.shape[0]} tokens of x, "
            f"got {list(group_sizes)}; give every token of x a group."
        )


def _check_shapes(
    x: Tensor,
    router_weights: Tensor | None,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    num_experts: int,
    experts_per_token: int,
) -> None:
    if w1.ndim != 3 or w2.ndim != 3:
        raise ValueError(
            "expert_mixture expected w1 (E, H, D_in) and w2 (E, H, D_out), "
            f"got w1 {tuple(w1.shape)} and w2 {tuple(w2.shape)}; stack the experts on the first axis."
        )
    hidden_dim, out_dim = w1.shape[1], w2.shape[2]
    expected = {
        "w1": (w1, (num_experts, hidden_dim, x.shape[1])),
        "b1": (b1, (num_experts, hidden_dim)),
        "w2": (w2, (num_experts, hidden_dim, out_dim)),
        "b2": (b2, (num_experts, out_dim)),
    }
    if router_weights is not None:
        expected["router_weights"] = (router_weights, (x.shape[0], experts_per_token))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"expert_mixture expected {name} of shape {shape}, got {tuple(tensor.shape)}; fit it to x of "
                f"{tuple(x.shape)} and E = len(group_sizes) * num_private + num_shared = {num_experts}."
            )


def _check_tensors(x: Tensor, router_weights: Tensor | None, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> None:
    weights = {"w1": w1, "b1": b1, "w2": w2, "b2": b2}
    gates = {} if router_weights is None else {"router_weights": router_weights}
    for name, tensor in ({"x": x} | weights | gates).items():
        check_tensor("expert_mixture", name, tensor)
        if not tensor.is_floating_point():
            raise ValueError(
                f"expert_mixture expected {name} in a floating-point dtype, got {tensor.dtype}; embed or cast it first."
            )
        if tensor.device != x.device:
            raise ValueError(
                f"expert_mixture expected {name} on the device of x, {x.device}, got {tensor.device}; move one of them."
            )
    if all(tensor.dtype == x.dtype for tensor in weights.values()) or autocasts(x.device.type):
        return
    raise ValueError(
        f"expert_mixture expected w1, b1, w2, b2 in the dtype of x, {x.dtype}, "
        f"got {', '.join(str(tensor.dtype) for tensor in weights.values())}; cast one of them, or use autocast."
    )
