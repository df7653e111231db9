"""What the modules ask of features that arrive keyed by modality."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def check_names(owner: str, modalities: Iterable[str]) -> tuple[str, ...]:
    names = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    if isinstance(modalities, str) or not names or len(set(names)) != len(names):
        raise ValueError(f"{owner} expected modalities: one or more distinct names, got {modalities!r}.")
    return names


def check_modalities(owner: str, expected: tuple[str, ...], got: Mapping[str, object]) -> None:
    if got.keys() != set(expected):
        raise ValueError(
            f"{owner} expected modalities {expected}, got {tuple(got)}; pass zeros for a modality that is missing."
        )


def check_features(owner: str, features: Mapping[str, Tensor], dims: Mapping[str, int], dtype: torch.dtype) -> None:
    """Features must be floating-point ``(B, N_m, dims[m])`` for every modality m, of one batch size.

    Their dtype must be the parameters', but under autocast, which casts by itself.
    """
    check_modalities(owner, tuple(dims), features)
    batch_size = next((feature.shape[0] for feature in features.values() if feature.ndim), "B")
    for name, dim in dims.items():
        feature = features[name]
        if feature.ndim != 3 or feature.shape[2] != dim or feature.shape[0] != batch_size:
            raise ValueError(
                f"{owner} expected {name!r} of shape ({batch_size}, tokens, {dim}), got {tuple(feature.shape)}."
            )
        if not feature.is_floating_point():
            raise ValueError(
                f"{owner} expected {name!r} in a floating-point dtype, got {feature.dtype}; embed or cast it first."
            )
        if feature.dtype != dtype and not autocasts(feature.device.type):
            raise ValueError(
                f"{owner} expected {name!r} in the dtype of its parameters, {dtype}, got {feature.dtype}; "
                "cast one of them, or use autocast."
            )


def autocasts(device: str) -> bool:
    """Whether matrix products on a device now cast their own operands."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
