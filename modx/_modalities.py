"""What every block of several modalities shares: names, presence, and checkpoints that know their names."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._checks import check_floating, check_mapping, check_tensor


class ModalityModule(nn.Module):
    """A module whose modalities are a set of names: their order never matters, and a checkpoint of others is refused.

    Keys alone do not tell the modalities of a bank apart, so ``state_dict()`` also carries the names, in the metadata
    where PyTorch keeps a module's version.
    """

    modalities: tuple[str, ...]

    def reset_parameters(self) -> None:
        """Draw every parameter anew, as the constructor does."""
        reset_children(self)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata.setdefault(prefix[:-1], {})["modalities"] = self.modalities

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        saved = tuple(local_metadata.get("modalities", self.modalities))
        if saved != self.modalities:
            owner = prefix[:-1] or type(self).__name__
            errors.append(f"{owner} expected a checkpoint of modalities {self.modalities}, got one of {saved}.")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


def reset_children(module: nn.Module) -> None:
    """Call ``reset_parameters`` of every submodule that has one, in the order in which the constructor made them."""
    for child in module.children():
        reset(child)


def reset(module: nn.Module) -> None:
    """Call a module's ``reset_parameters``, or those of its submodules."""
    if callable(own := getattr(module, "reset_parameters", None)):
        own()
    else:
        reset_children(module)


def is_name(name: object) -> bool:
    """Whether a name can be a modality's: it keys an ``nn.ModuleDict`` and an ``nn.ParameterDict``."""
    owners = nn.ModuleDict(), nn.ParameterDict()
    return isinstance(name, str) and name != "" and "." not in name and not any(hasattr(own, name) for own in owners)


def check_names(owner: str, modalities: Iterable[str], argument: str = "modalities") -> tuple[str, ...]:
    """The names, sorted."""
    names = tuple(modalities) if isinstance(modalities, Iterable) else ()
    distinct = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    if isinstance(modalities, str) or not names or not distinct:
        raise ValueError(
            f"{owner} expected {argument}: one or more distinct names, got {modalities!r}; pass strings, as in "
            "('text', 'audio')."
        )
    for name in names:
        if not is_name(name):
            raise ValueError(
                f"{owner} expected {argument}: names that are not empty, hold no '.' and are no attribute of "
                f"nn.ModuleDict or nn.ParameterDict, got {name!r}; rename it."
            )
    return tuple(sorted(names))


def check_parts(
    owner: str, argument: str, parts: Mapping[str, Tensor | None], modalities: Iterable[str] = ()
) -> dict[str, Tensor]:
    """What is there, by sorted name; ``modalities`` are the names that may occur, without them any may."""
    check_mapping(owner, argument, parts)
    expected = tuple(modalities)
    given = [name for name in parts if parts[name] is not None]
    if not given or (expected and not set(parts) <= set(expected)):
        names = f"modalities {expected}" if expected else "at least one modality"
        got = f"{tuple(parts)}" if given else "none"
        raise ValueError(f"{owner} expected {argument} of {names}, got {got}; name what is there, and nothing else.")
    found = {}
    for name in sorted(given, key=str):
        part = parts[name]
        check_tensor(owner, f"{name!r} of {argument}", part)
        assert part is not None
        found[name] = part
    return found


def as_tokens(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``(B, D)`` is one token, ``(B, 1, D)``."""
    return {name: part[:, None] if part.ndim == 2 else part for name, part in parts.items()}


def check_features(
    owner: str,
    features: Mapping[str, Tensor | None],
    dims: Mapping[str, int],
    dtype: torch.dtype,
    argument: str = "features",
) -> dict[str, Tensor]:
    """What is there, by sorted name: floating-point ``(B, N_m, dims[m])``, of one batch size.

    Their dtype must be the parameters', but under autocast, which casts by itself.
    """
    found = check_parts(owner, argument, features, dims)
    batch_size = next((part.shape[0] for part in found.values() if part.ndim), "B")
    for name, part in found.items():
        if part.ndim not in (2, 3) or part.shape[-1] != dims[name] or part.shape[0] != batch_size:
            raise ValueError(
                f"{owner} expected {name!r} of shape ({batch_size}, tokens, {dims[name]}), got {tuple(part.shape)}; "
                "bring it to that shape, or build the module for its width."
            )
        check_floating(owner, repr(name), part, dtype)
    return as_tokens(found)


def check_present(
    owner: str, present: Mapping[str, Tensor] | None, parts: Mapping[str, Tensor], argument: str = "present"
) -> dict[str, Tensor]:
    """A mask ``(B, N_m)`` for each of ``parts``, of ``(B,)`` or ``(B, N_m)``; none at all where ``present`` is None."""
    if present is None:
        return {}
    check_mapping(owner, argument, present)
    found = {}
    for name, part in parts.items():
        mask, shape = present.get(name), tuple(part.shape[:2])
        if mask is None:
            raise ValueError(
                f"{owner} expected {argument} for every modality of {tuple(parts)}, got {tuple(present)}; add {name!r}."
            )
        check_tensor(owner, f"{name!r} of {argument}", mask)
        if mask.dtype != torch.bool or tuple(mask.shape) not in (shape, shape[:1]):
            raise ValueError(
                f"{owner} expected {name!r} of {argument}: bool of shape {shape[:1]} or {shape}, got {mask.dtype} of "
                f"shape {tuple(mask.shape)}; compare it, as in ``mask != 0``, or bring it to that shape."
            )
        found[name] = mask if mask.ndim == 2 else mask[:, None].expand(shape)
    return found


def hide(parts: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros where a mask is False: selected, not multiplied, so that NaN reaches neither a value nor a gradient."""
    return {
        name: torch.where(present[name][..., None], part, 0) if name in present else part
        for name, part in parts.items()
    }
