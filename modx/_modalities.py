"""What every block of several modalities shares: names, presence, and checkpoints that know their names."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._checks import check, check_shapes, check_type


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


def check_names(owner: object, modalities: Iterable[str], argument: str = "modalities") -> tuple[str, ...]:
    """The names, sorted."""
    names = tuple(modalities) if isinstance(modalities, Iterable) and not isinstance(modalities, str) else ()
    distinct = all(isinstance(name, str) for name in names) and 0 < len(names) == len(set(names))
    check(distinct, owner, f"{argument}: one or more distinct names", modalities, "pass them as in ('text', 'audio')")
    for name in names:
        expected = f"{argument}: names without '.', not empty, no attribute of nn.ModuleDict or nn.ParameterDict"
        check(is_name(name), owner, expected, name, "rename it")
    return tuple(sorted(names))


def read_parts(
    owner: object,
    present: Mapping[str, Tensor] | None,
    dims: Mapping[str, int] | None = None,
    dtype: torch.dtype | None = None,
    presence: str = "present",
    /,
    **given: Mapping[str, Tensor | None],
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """Read mappings of the same modalities, ``(B, N_m, D_m)`` or ``(B, D_m)`` for one token, and their presence.

    Args:
        owner: What takes them.
        present: Bool ``(B,)`` or ``(B, N_m)`` per modality. None: everything is present.
        dims: D_m of the modalities that may occur. Default: any.
        dtype: As for ``check_shapes``.
        presence: The name of ``present``.
        given: The mappings by name. A modality may be left out, or None, in all of them.

    Returns:
        By sorted name, what is given as ``(B, N_m, D_m)``, with zeros where it is absent; and where it is present,
        ``(B, N_m)``, of no modality if ``present`` is None.
    """
    parts: list[dict[str, Tensor]] = []
    sizes: dict[str, dict[str, int]] = {}
    batch: dict[str, int] = {}
    for argument, mapping in given.items():
        check_type(owner, Mapping, **{argument: mapping})
        found = {name: _as_tokens(mapping[name]) for name in sorted(mapping, key=str) if mapping[name] is not None}
        fits = found.keys() == sizes.keys() if parts else dims is None or mapping.keys() <= dims.keys()
        expected = f"modalities {tuple(sizes or dims or ())}" if sizes or dims else "at least one modality"
        came = tuple(mapping if found else ())
        check(found and fits, owner, f"{argument} of {expected}", came, "name what is there, and nothing else")
        for name, part in found.items():
            known = sizes.get(name) or batch | ({} if dims is None else {"D": dims[name]})
            sizes[name] = check_shapes(owner, known, dtype, **{f"{name!r} of {argument}": (part, "B N D")})
            batch = {"B": sizes[name]["B"]}
        parts.append(found)
    there: dict[str, Tensor] = {}
    if present is None:
        return parts, there
    check_type(owner, Mapping, **{presence: present})
    for name, known in sizes.items():
        mask: Any = present.get(name)
        check(mask is not None, owner, f"{presence} for modalities {tuple(sizes)}", tuple(present), f"add {name!r}")
        spelled = "bool B" if getattr(mask, "ndim", None) == 1 else "bool B N"
        check_shapes(owner, known, **{f"{name!r} of {presence}": (mask, spelled)})
        there[name] = mask if mask.ndim == 2 else mask[:, None].expand(-1, known["N"])
    return [hide(part, there) for part in parts], there


def _as_tokens(part: Any) -> Any:
    """``(B, D)`` is one token, ``(B, 1, D)``."""
    return part[:, None] if isinstance(part, Tensor) and part.ndim == 2 else part


def hide(parts: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros where a mask is False: selected, not multiplied, so that NaN reaches neither a value nor a gradient."""
    return {
        name: torch.where(present[name][..., None], part, 0) if name in present else part
        for name, part in parts.items()
    }
