"""Auxiliary losses for the disentangler, its routers and the reconstructor."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check_choice, check_shapes, check_type
from ._modalities import read_parts
from .disentangle import Disentangled
from .reconstruct import Reconstruction

PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda cosine: cosine,
    "relu": F.relu,
    "abs": torch.abs,
    "square": torch.square,
}


class ReconstructionLoss(NamedTuple):
    """Scalars. ``total`` (eq. 12) is the mean of the other three; a level that was not rebuilt has loss 0."""

    total: Tensor
    input: Tensor
    disentangled: Tensor
    joint: Tensor


def orthogonality_loss(
    disentangled: Disentangled, *, penalty: str = "cosine", present: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Penalize the cosine similarity of a token's private and shared views (eq. 5 of DERL, Li et al.).

    The loss is averaged over the tokens that are present (0 if there are none) and summed over modalities. As printed,
    eq. 5 is the cosine itself, so its minimum of -1 makes the views point in opposite directions. "relu", "abs" and
    "square" are already minimal for orthogonal views.

    Args:
        disentangled: The result of :class:`modx.HybridExpertDisentangler`.
        penalty: Function of the cosine: "cosine" (the identity, as printed), "relu", "abs" or "square".
        present: Bool ``(B,)`` or ``(B, N_m)`` per modality m, False where it is absent and does not count. Default:
            everything is present.

    Returns:
        A scalar.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The penalty is unknown, the views differ in modalities or shapes, or a shape does not match.

    Example:
        >>> view = {"text": torch.ones(2, 4, 8)}
        >>> round(orthogonality_loss(Disentangled(view, view, {})).item(), 4)
        1.0
    """
    owner = "orthogonality_loss"
    check_choice(owner, PENALTIES, penalty=penalty)
    check_type(owner, Disentangled, disentangled=disentangled)
    views = {"private": disentangled.private, "shared": disentangled.shared}
    (private, shared), there = read_parts(owner, present, **views)
    losses = [_mean(PENALTIES[penalty](_cosine(view, shared[name])), there.get(name)) for name, view in private.items()]
    return torch.stack(losses).sum()


def reconstruction_loss(
    reconstruction: Reconstruction,
    target_features: Mapping[str, Tensor],
    target_disentangled: Disentangled,
    *,
    detach_target: bool = False,
    present: Mapping[str, Tensor] | None = None,
) -> ReconstructionLoss:
    """Compare reconstructions with the complete input by mean absolute error (eq. 7, 9, 11, 12 of DERL, Li et al.).

    The error is averaged over the width and the tokens that are present (0 if there are none) and summed over
    modalities. The disentangled level is the sum of both views' errors.

    Args:
        reconstruction: The result of :class:`modx.MultiLevelReconstructor` for the corrupted input. A modality that it
            leaves out does not count.
        target_features: Features of the complete input, ``(B, N_m, D)`` per modality m: targets of "input" and "joint".
        target_disentangled: Views of these features: targets of "disentangled".
        detach_target: Whether to stop gradients into the targets. As printed, they flow.
        present: Bool ``(B,)`` or ``(B, N_m)`` per modality m, False where it is absent and does not count. Default:
            everything is present.

    Returns:
        The total and the loss of each level.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A target is missing, or a shape does not match.

    Example:
        >>> from modx import HybridExpertDisentangler, MultiLevelReconstructor
        >>> features = {"text": torch.randn(2, 4, 8)}
        >>> views = HybridExpertDisentangler(("text",), 8, 16)(features)
        >>> rebuilt = MultiLevelReconstructor(("text",), 8, 8, levels=["joint"])(features, views)
        >>> loss = reconstruction_loss(rebuilt, features, views)
        >>> bool(loss.total == loss.joint / 3), loss.input
        (True, tensor(0.))
    """
    owner = "reconstruction_loss"
    check_type(owner, Reconstruction, reconstruction=reconstruction)
    check_type(owner, Disentangled, target_disentangled=target_disentangled)
    check_type(owner, bool, detach_target=detach_target)
    (complete,), _ = read_parts(owner, None, target_features=target_features)
    zero = next(iter(complete.values())).new_zeros(())

    def compare(rebuilt: Mapping[str, Tensor] | None, argument: str, target: Mapping[str, Tensor]) -> Tensor:
        if rebuilt is None:
            return zero
        check_type(owner, Mapping, **{"reconstruction": rebuilt, argument: target})
        asked = {name: part for name, part in target.items() if rebuilt.get(name) is not None} or target
        (parts, target), there = read_parts(owner, present, **{"reconstruction": rebuilt, argument: asked})
        losses = []
        for name, part in parts.items():
            goal = target[name].detach() if detach_target else target[name]
            losses.append(_mean(F.l1_loss(part, goal, reduction="none"), there.get(name)))
        return torch.stack(losses).sum()

    level_input = compare(reconstruction.input, "target_features", target_features)
    private = compare(reconstruction.private, "target_disentangled", target_disentangled.private)
    shared = compare(reconstruction.shared, "target_disentangled", target_disentangled.shared)
    joint = compare(reconstruction.joint, "target_features", target_features)
    disentangled = private + shared
    return ReconstructionLoss((level_input + disentangled + joint) / 3, level_input, disentangled, joint)


def load_balance(router_weights: Mapping[str, Tensor], present: Mapping[str, Tensor] | None = None) -> Tensor:
    r"""Penalize routers that prefer some of their experts to others.

    :math:`K \sum_k m_k^2`, where :math:`m_k` is the mean weight of expert k of K over the tokens that are present. It
    is 1 if all experts have the same mean weight, K if one has all, and 0 if there are no tokens. It is summed over
    modalities. It is the loss of the Switch Transformer (Fedus et al., equation 4), with the mean weight in place of
    the fraction of tokens sent to an expert, because here every token runs through every expert. It equals 1 plus the
    squared coefficient of variation of the weights (Shazeer et al., "Outrageously Large Neural Networks: The
    Sparsely-Gated Mixture-of-Experts Layer", equations 6 and 7). Scale it by a small number such as 0.01.

    Args:
        router_weights: ``(B, N_m, K)`` per modality m, such as the ``router_weights`` of
            :class:`modx.HybridExpertDisentangler`. Rows of zeros, its weights of absent tokens, do not count.
        present: Bool ``(B,)`` or ``(B, N_m)`` per modality m, False where it is absent and does not count. Default:
            everything is present.

    Returns:
        A scalar.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape or dtype does not match.

    Example:
        >>> even, uneven = torch.full((2, 4, 3), 1 / 3), torch.eye(3)[:1].expand(2, 4, 3)
        >>> round(load_balance({"text": even}).item(), 4), load_balance({"text": uneven}).item()
        (1.0, 3.0)
    """
    owner = "load_balance"
    check_type(owner, Mapping, router_weights=router_weights)
    for name, part in router_weights.items():
        check_shapes(owner, **{f"router_weights[{name!r}]": (part, "B N K?")})
    (weights,), _ = read_parts(owner, present, router_weights=router_weights)
    losses = []
    for part in weights.values():
        total = part.sum((0, 1), dtype=torch.promote_types(part.dtype, torch.float32))
        mean = total / part.any(-1).sum().clamp(min=1)
        losses.append((len(mean) * mean.square().sum()).to(part.dtype))
    return torch.stack(losses).sum()


def _mean(costs: Tensor, present: Tensor | None) -> Tensor:
    """Average ``(B, N, ...)`` costs over the tokens present, 0 if there are none; absent tokens must have cost 0."""
    total = costs.sum(dtype=torch.promote_types(costs.dtype, torch.float32))
    if present is None:
        return (total / max(costs.numel(), 1)).to(costs.dtype)
    return (total / (present.sum() * math.prod(costs.shape[2:])).clamp(min=1)).to(costs.dtype)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity in float32 or wider, so norms cannot overflow; ``eps`` stays representable in float16."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    least = max(1e-8, torch.finfo(dtype).smallest_normal)
    return F.cosine_similarity(a.to(wide), b.to(wide), dim=-1, eps=least).to(dtype)
