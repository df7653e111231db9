"""What the disentangler and the reconstructor are trained by, beside the task."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check_choice, check_flag, check_mapping, check_modalities, check_tensor
from .disentangle import Disentangled
from .reconstruct import Reconstruction

PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda cosine: cosine,
    "relu": F.relu,
    "abs": torch.abs,
    "square": torch.square,
}


class ReconstructionLoss(NamedTuple):
    """Scalars: ``total`` (eq. 12) is the sum of ``input``, ``disentangled`` and ``joint``; 0 for a level left out."""

    total: Tensor
    input: Tensor
    disentangled: Tensor
    joint: Tensor


def orthogonality_loss(
    private: Mapping[str, Tensor], shared: Mapping[str, Tensor], *, penalty: str = "cosine"
) -> Tensor:
    """Penalise the cosine between a token's private and shared view (eq. 5 of DERL, Li et al.).

    Averaged over tokens, summed over modalities. As printed, eq. 5 is the cosine itself, whose least value is -1:
    views that point in opposite directions. "relu", "abs" and "square" are least where the views are orthogonal.

    Args:
        private: ``(B, N_m, D)`` for every modality m.
        shared: the same.
        penalty: "cosine" (as printed), "relu", "abs" or "square".

    Returns:
        A scalar.

    Raises:
        ValueError: the modalities or a modality's two shapes differ, or the penalty is unknown.

    Example:
        >>> view = {"text": torch.ones(2, 4, 8)}
        >>> round(orthogonality_loss(view, view).item(), 4)
        1.0
    """
    check_choice("orthogonality_loss", "penalty", penalty, PENALTIES)
    _check_parts("orthogonality_loss", "private", private)
    check_modalities("orthogonality_loss", tuple(private), shared, "shared")
    _check_parts("orthogonality_loss", "shared", shared)
    for name, view in private.items():
        if view.shape != shared[name].shape:
            raise ValueError(
                f"orthogonality_loss expected private and shared views of {name!r} of one shape, "
                f"got {tuple(view.shape)} and {tuple(shared[name].shape)}; pass both views of the same tokens."
            )
    losses = [PENALTIES[penalty](_cosine(private[name], shared[name])).mean() for name in private]
    return torch.stack(losses).sum()


def reconstruction_loss(
    reconstruction: Reconstruction,
    target_features: Mapping[str, Tensor],
    target_disentangled: Disentangled,
    *,
    detach_target: bool = False,
) -> ReconstructionLoss:
    """Mean absolute error of what was rebuilt against the complete input's features and views (eq. 7, 9, 11, 12).

    Averaged over tokens and width, summed over modalities; the disentangled level adds both views. DERL, Li et al.

    Args:
        reconstruction: what :class:`modx.MultiLevelReconstructor` made of the corrupted input.
        target_features: ``(B, N_m, D)`` for every modality m, from the complete input: target of "input", "joint".
        target_disentangled: their views: target of "disentangled".
        detach_target: whether to stop the gradient into the targets; as printed, it flows.

    Raises:
        ValueError: the modalities differ.

    Example:
        >>> from modx import HybridExpertDisentangler, MultiLevelReconstructor
        >>> features = {"text": torch.randn(2, 4, 8)}
        >>> views = HybridExpertDisentangler(("text",), 8, 16)(features)
        >>> rebuilt = MultiLevelReconstructor(("text",), 8, 8, levels=["joint"])(features, views)
        >>> loss = reconstruction_loss(rebuilt, features, views)
        >>> bool(loss.total == loss.joint / 3), loss.input
        (True, tensor(0.))
    """

    def compare(rebuilt: Mapping[str, Tensor] | None, target: Mapping[str, Tensor]) -> Tensor:
        if rebuilt is None:
            return next(iter(target_features.values())).new_zeros(())
        _check_parts("reconstruction_loss", "reconstruction", rebuilt)
        check_modalities("reconstruction_loss", tuple(rebuilt), target)
        _check_parts("reconstruction_loss", "the target", target)
        for name, part in rebuilt.items():
            if part.shape != target[name].shape:
                raise ValueError(
                    f"reconstruction_loss expected {name!r} and its target of one shape, "
                    f"got {tuple(part.shape)} and {tuple(target[name].shape)}; rebuild and encode the same samples."
                )
        losses = [
            F.l1_loss(part, target[name].detach() if detach_target else target[name]) for name, part in rebuilt.items()
        ]
        return torch.stack(losses).sum()

    for argument, given, kind in (
        ("reconstruction", reconstruction, Reconstruction),
        ("target_disentangled", target_disentangled, Disentangled),
    ):
        if not isinstance(given, kind):
            raise TypeError(
                f"reconstruction_loss expected {argument}: a {kind.__name__}, got {type(given).__name__}; pass what "
                "its module returns."
            )
    _check_parts("reconstruction_loss", "target_features", target_features)
    check_flag("reconstruction_loss", "detach_target", detach_target)
    level_input = compare(reconstruction.input, target_features)
    private = compare(reconstruction.private, target_disentangled.private)
    shared = compare(reconstruction.shared, target_disentangled.shared)
    joint = compare(reconstruction.joint, target_features)
    disentangled = private + shared
    return ReconstructionLoss((level_input + disentangled + joint) / 3, level_input, disentangled, joint)


def _check_parts(owner: str, name: str, parts: Mapping[str, Tensor]) -> None:
    check_mapping(owner, name, parts)
    if not parts:
        raise ValueError(f"{owner} expected {name} of at least one modality, got none; pass name -> tensor.")
    for modality, part in parts.items():
        check_tensor(owner, f"{modality!r} of {name}", part)
        if not part.is_floating_point():
            raise ValueError(
                f"{owner} expected {modality!r} of {name} in a floating-point dtype, got {part.dtype}; cast it first."
            )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """In float32 at least, where norms do not overflow; the least norm divided by is one that float16 can divide by."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    wide = torch.promote_types(dtype, torch.float32)
    least = max(1e-8, torch.finfo(dtype).smallest_normal)
    return F.cosine_similarity(a.to(wide), b.to(wide), dim=-1, eps=least).to(dtype)
