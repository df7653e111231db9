"""What the library asks of its arguments: every error says which, what was expected, what came, and the remedy."""

from collections.abc import Iterable, Mapping
from numbers import Integral, Real

import torch
from torch import Tensor


def is_int(value: object) -> bool:
    return isinstance(value, Integral | torch.SymInt) and not isinstance(value, bool)


def check_int(owner: str, name: str, value: object) -> None:
    if not is_int(value):
        raise TypeError(f"{owner} expected {name} to be an int, got {value!r}; pass a whole number.")


def check_sizes(owner: str, least: int = 1, **sizes: int) -> None:
    for name, size in sizes.items():
        check_int(owner, name, size)
        if size < least:
            raise ValueError(f"{owner} expected {name} >= {least}, got {size}; pass a larger number.")


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_choice(owner: str, name: str, word: object, choices: Iterable[str]) -> None:
    if word not in (words := tuple(choices)):
        raise ValueError(f"{owner} expected {name} to be one of {words}, got {word!r}; check the spelling.")


def check_flag(owner: str, name: str, flag: object) -> None:
    if not isinstance(flag, bool):
        raise TypeError(f"{owner} expected {name} to be True or False, got {flag!r}; pass one of them.")


def check_dtype(owner: str, dtype: object) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(
            f"{owner} expected dtype to be a floating-point torch.dtype or None, got {dtype!r}; pass one such as "
            "torch.float32."
        )


def check_tensor(owner: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{owner} expected {name} to be a tensor, got {type(value).__name__}; convert it, as by torch.as_tensor."
        )


def check_shapes(
    owner: str, sizes: Mapping[str, int] | None = None, /, **tensors: tuple[Tensor | None, str]
) -> dict[str, int]:
    """Every tensor has the shape that its letters spell, a letter standing for one size; returns the sizes by letter.

    ``sizes`` are those known before; a tensor may be None.
    """
    found = dict(sizes or {})
    for name, (tensor, spelled) in tensors.items():
        if tensor is None:
            continue
        letters = spelled.split()
        fits = len(letters) == tensor.ndim and all(
            found.setdefault(letter, size) == size for letter, size in zip(letters, tensor.shape, strict=True)
        )
        if not fits:
            shape = ", ".join(f"{letter}={found[letter]}" if letter in found else letter for letter in letters)
            raise ValueError(f"{owner} expected {name} ({shape}), got {tuple(tensor.shape)}.")
    return found


def check_tokens(owner: str, name: str, x: Tensor, dim: int, dtype: torch.dtype) -> None:
    """Tokens must be floating-point ``(..., dim)``, in the dtype of the parameters but under autocast."""
    check_tensor(owner, name, x)
    if not x.ndim or x.shape[-1] != dim:
        raise ValueError(
            f"{owner} expected {name} of shape (..., {dim}), got {tuple(x.shape)}; put the features last, or build the "
            "module for their width."
        )
    check_floating(owner, name, x, dtype)


def check_mapping(owner: str, name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{owner} expected {name} to be a mapping, got {type(value).__name__}; pass a dict keyed by modality."
        )


def check_mask(owner: str, name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    check_tensor(owner, name, mask)
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"{owner} expected {name}: bool of shape {tuple(shape)}, got {mask.dtype} of shape {tuple(mask.shape)}; "
            "compare it, as in ``attention_mask != 0``, or bring it to that shape."
        )


def check_floating(owner: str, name: str, x: Tensor, dtype: torch.dtype) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{owner} expected {name} in a floating-point dtype, got {x.dtype}; embed or cast it first.")
    if x.dtype != dtype and not autocasts(x.device.type):
        raise ValueError(
            f"{owner} expected {name} in the dtype of its parameters, {dtype}, got {x.dtype}; "
            "cast one of them, or use autocast."
        )


def autocasts(device: str) -> bool:
    """Whether matrix products on a device now cast their own operands."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
