"""Checks of arguments. Their errors say what was expected, what was received and, if useful, what to do.

``owner`` is the object whose method was called, or the name of a function.
"""

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

NUMBERS: dict[Any, Any] = {int: (Integral, torch.SymInt), float: (Real,)}
# Kinds of tensors in a spelling: for each, its name in messages, a test and a remedy.
DTYPES: dict[str, tuple[str, Callable[[Tensor], bool], str]] = {
    "float": ("in a floating-point dtype", Tensor.is_floating_point, "cast it to one"),
    "any": ("in a floating-point dtype", Tensor.is_floating_point, "cast it to one"),  # any of them
    "bool": ("to be bool", lambda x: x.dtype == torch.bool, "convert it, e.g. with ``!= 0``"),
    "number": ("to hold numbers", lambda x: not (x.is_complex() or x.dtype == torch.bool), "cast it to float"),
    "int": ("to hold integers", lambda x: x.dtype != torch.bool and not (x.is_floating_point() or x.is_complex()), ""),
}


def message(owner: object, expected: str, got: object, remedy: str = "") -> str:
    name = owner if isinstance(owner, str) else type(owner).__name__
    came = f"{got.dtype} {tuple(got.shape)}" if isinstance(got, Tensor) else reprlib.repr(got)
    came = str(got) if isinstance(got, torch.device) else came
    return f"{name} expected {expected}, got {came}{'; ' if remedy else ''}{remedy}."


def check(condition: object, owner: object, expected: str, got: object, remedy: str = "") -> None:
    if not condition:
        raise ValueError(message(owner, expected, got, remedy))


def check_type(owner: object, *kinds: Any, **values: object) -> None:
    """Check that values have one of several types; ``int`` and ``float`` stand for everything that counts as one."""
    for name, value in values.items():
        if type(value) in kinds:  # most are
            continue
        accepted = tuple(one for kind in kinds for one in NUMBERS.get(kind, (kind,)))
        if not isinstance(value, accepted) or isinstance(value, bool):
            words = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(message(owner, f"{name} of type {words}", value))


def check_range(owner: object, least: float, most: float | None = None, /, **numbers: Any) -> None:
    """Check numbers to be finite and within inclusive bounds; they must be ints, unless ``least`` is a float."""
    for name, value in numbers.items():
        check_type(owner, float if isinstance(least, float) else int, **{name: value})
        if not (value >= least and (most is None or value <= most)) or (isinstance(value, float) and value == math.inf):
            span = f">= {least:.4g}" if most is None else f"in [{least:.12g}, {most:.12g}]"
            which = f"a finite {name}" if most is None and isinstance(least, float) else name
            raise ValueError(message(owner, f"{which} {f'== {least}' if least == most else span}", value))


def check_layer(owner: object, dtype: object, /, **sizes: int) -> None:
    """Check the usual arguments of a constructor: sizes of at least 1 and a dtype."""
    check_range(owner, 1, **sizes)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(message(owner, "dtype to be a floating-point torch.dtype or None", dtype))


def check_choice(owner: object, choices: Iterable[str], /, **words: object) -> None:
    for name, word in words.items():
        check(word in tuple(choices), owner, f"{name} to be one of {tuple(choices)}", word)


def check_shapes(
    owner: object,
    known: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    dtype_of: str = "its weights",
    /,
    **tensors: Any,
) -> dict[str, Any]:
    """Check tensors against spelled shapes, as in ``check_shapes(self, x=(x, "B T D"), mask=(mask, "bool B T?"))``.

    A letter stands for the same size everywhere, ``...`` for any leading sizes. A question mark allows None. All
    tensors must be on one device. They must be floating-point unless the spelling names another kind, and have
    ``dtype``, the dtype of what ``dtype_of`` names, if given, except under autocast or where spelled ``any``.

    Returns:
        The sizes by letter, including those ``known`` beforehand.
    """
    found, first = dict(known or {}), None
    for name, (tensor, spelled) in tensors.items():
        if tensor is None and spelled.endswith("?"):
            continue
        if not isinstance(tensor, Tensor):
            check_type(owner, Tensor, **{name: tensor})
        words = spelled.rstrip("?").split()
        kind, *letters = words if words[0] in DTYPES else ["float", *words]
        shape, dots = tuple(tensor.shape), found.get("...")
        if letters[:1] == ["..."]:
            lead = max(len(shape) - len(letters) + 1, 0)
            shape = (shape[:lead], *shape[lead:])
        pairs = zip(letters, shape, strict=False)
        if len(shape) != len(letters) or any(found.setdefault(letter, size) != size for letter, size in pairs):
            sizes = [f"{letter}={found[letter]}" if letter in found else letter for letter in letters]
            if letters[:1] == ["..."]:
                sizes = [*(["..."] if dots is None else map(str, dots)), *sizes[1:]]
            spelled = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
            raise ValueError(message(owner, f"{name} of shape {spelled}", tuple(tensor.shape)))
        what, accepts, remedy = DTYPES[kind]
        if not accepts(tensor):
            raise ValueError(message(owner, f"{name} {what}", tensor.dtype, remedy))
        differs = kind == "float" and dtype is not None and dtype.is_floating_point and tensor.dtype != dtype
        if differs and not autocasts(tensor.device.type):
            expected = f"{name} in {dtype}, the dtype of {dtype_of}"
            raise ValueError(message(owner, expected, tensor.dtype, "cast it or use autocast"))
        first = first or (name, tensor.device)
        if tensor.device != first[1]:
            expected = f"{name} on {first[1]}, the device of {first[0]}"
            raise ValueError(message(owner, expected, tensor.device, "move one of them"))
    return found


def autocasts(device: str) -> bool:
    """Whether autocast is on for a device, so that matmuls cast their operands."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
