"""What the modules ask of features that arrive keyed by modality."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def check_names(owner: str, modalities: Iterable[str]) -> tuple[str, ...]:
    names = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    if isinstance(modalities, str) or not names or len(set(names)) != len(names):
        raise ValueError(
            f"{owner} expected modalities: one or more distinct names, got {modalities!r}; pass a tuple of str."
        )
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
                f"{owner} expected {name!r} of shape ({batch_size}, tokens, {dim}), got {tuple(feature.shape)}; "
                "reshape it, or build the module for that width."
            )
        check_dtype(owner, repr(name), feature, dtype)


def check_tokens(owner: str, x: Tensor, dim: int, dtype: torch.dtype) -> None:
    """Tokens must be floating-point ``(..., dim)``, in the parameters' dtype but under autocast."""
    if x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(
            f"{owner} expected x of shape (..., {dim}), got {tuple(x.shape)}; reshape it, or build the module for that "
            "width."
        )
    check_dtype(owner, "x", x, dtype)


def check_sequences(owner: str, x: Tensor, dim: int, mask: Tensor | None, num_queries: int | None) -> None:
    """Tokens must be ``(B, T, dim)``, the mask bool ``(B, T)``, and queries some of them."""
    if x.ndim != 3 or x.shape[2] != dim:
        raise ValueError(
            f"{owner} expected x of shape (B, T, {dim}), got {tuple(x.shape)}; reshape it, or build the module for "
            "that width."
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != x.shape[:2]):
        raise ValueError(
            f"{owner} expected mask: bool of shape {tuple(x.shape[:2])}, got {mask.dtype} of shape "
            f"{tuple(mask.shape)}; make it True where a token is real."
        )
    if num_queries is not None and not 1 <= num_queries <= x.shape[1]:
        raise ValueError(
            f"{owner} expected num_queries between 1 and {x.shape[1]}, got {num_queries}; pass None for all rows."
        )


def check_dtype(owner: str, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if not tensor.is_floating_point():
        raise ValueError(
            f"{owner} expected {name} in a floating-point dtype, got {tensor.dtype}; embed or cast it first."
        )
    if tensor.dtype != dtype and not autocasts(tensor.device.type):
        raise ValueError(
            f"{owner} expected {name} in the dtype of its parameters, {dtype}, got {tensor.dtype}; "
            "cast one of them, or use autocast."
        )


def check_sizes(owner: str, **sizes: int) -> None:
    """Sizes must be whole numbers of at least 1."""
    for name, size in sizes.items():
        if not hasattr(size, "__index__") or isinstance(size, bool) or size < 1:
            raise ValueError(f"{owner} expected {name} >= 1, got {size!r}; pass a positive whole number.")


def check_word(owner: str, name: str, word: str, words: Iterable[str]) -> None:
    """A word must be one of a few."""
    if word not in tuple(words):
        raise ValueError(f"{owner} expected {name} to be one of {tuple(words)}, got {word!r}; check the spelling.")


def autocasts(device: str) -> bool:
    """Whether matrix products on a device now cast their own operands."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
