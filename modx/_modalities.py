"""Shared parts of all blocks with several modalities: names, presence, and checkpoints that store the names."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._checks import check, check_shapes, check_type
from ._ordinary import why_unusual


class ModalityModule(nn.Module):
    """A module whose modalities are a set of names, in any order.

    It refuses a checkpoint with other names. The keys of a checkpoint do not name the modalities of a bank, so
    ``state_dict()`` stores the names in its metadata, where PyTorch stores a module's version.
    """

    modalities: tuple[str, ...]

    def reset_parameters(self) -> None:
        """Reinitialize all parameters, as the constructor does."""
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
            errors.append(f"{owner} expected a checkpoint with modalities {self.modalities}, got {saved}.")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)


def reset_children(module: nn.Module) -> None:
    """Call ``reset_parameters`` on every submodule that has it, in the order of construction."""
    for child in module.children():
        reset(child)


def reset(module: nn.Module) -> None:
    """Call ``reset_parameters`` on a module, or on its submodules if it has none."""
    if callable(own := getattr(module, "reset_parameters", None)):
        own()
    else:
        reset_children(module)


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """Return the dtype of a module's first floating-point parameter; None without one, as in a DataParallel replica."""
    return next((parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()), None)


def is_name(name: object) -> bool:
    """Whether a modality can have this name: ``nn.ModuleDict`` and ``nn.ParameterDict`` must accept it as a key."""
    owners = nn.ModuleDict(), nn.ParameterDict()
    return isinstance(name, str) and name != "" and "." not in name and not any(hasattr(own, name) for own in owners)


def check_names(owner: object, modalities: Iterable[str], argument: str = "modalities") -> tuple[str, ...]:
    """Check the names and return them sorted."""
    names = tuple(modalities) if isinstance(modalities, Iterable) and not isinstance(modalities, str) else ()
    distinct = all(isinstance(name, str) for name in names) and 0 < len(names) == len(set(names))
    expected = f"{argument} to be one or more distinct names"
    check(distinct, owner, expected, modalities, "pass names such as ('text', 'audio')")
    for name in names:
        expected = f"{argument} to be non-empty, without '.', not attributes of nn.ModuleDict or nn.ParameterDict"
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
    """Check mappings with the same modalities, and zero what is absent.

    Args:
        owner: Passed to ``check_shapes``.
        present: Bool ``(B,)`` or ``(B, N_m)`` per modality. Default: everything is present.
        dims: D_m of every modality that is allowed. Default: any.
        dtype: Passed to ``check_shapes``.
        presence: Name of the argument ``present`` in messages.
        given: The mappings by argument name: ``(B, N_m, D_m)`` per modality, or ``(B, D_m)`` for one token. A modality
            may be None or left out, in all of them.

    Returns:
        The mappings, sorted by name, ``(B, N_m, D_m)`` each with zeros where a token is absent; and the masks of
        present tokens, ``(B, N_m)`` each, an empty mapping if ``present`` is None.
    """
    parts: list[dict[str, Tensor]] = []
    sizes: dict[str, dict[str, int]] = {}
    batch: dict[str, int] = {}
    for argument, mapping in given.items():
        check_type(owner, Mapping, **{argument: mapping})
        found = {name: _as_tokens(mapping[name]) for name in sorted(mapping, key=str) if mapping[name] is not None}
        fits = found.keys() == sizes.keys() if parts else dims is None or mapping.keys() <= dims.keys()
        expected = "at least one modality"
        if parts:
            expected = f"the modalities {tuple(sizes)} of {next(iter(given))}"
        elif dims is not None:
            expected = f"one or more of the modalities {tuple(dims)} and no others"
        came = tuple(mapping if found else ())
        check(found and fits, owner, f"{argument} with {expected}", came)
        for name, part in found.items():
            known = sizes.get(name) or batch | ({} if dims is None else {"D": dims[name]})
            sizes[name] = check_shapes(owner, known, dtype, **{f"{argument}[{name!r}]": (part, "B N D")})
            batch = {"B": sizes[name]["B"]}
        parts.append(found)
    there: dict[str, Tensor] = {}
    if present is None:
        return parts, there
    check_type(owner, Mapping, **{presence: present})
    for name, known in sizes.items():
        mask: Any = present.get(name)
        check(mask is not None, owner, f"{presence} for the modalities {tuple(sizes)}", tuple(present), f"add {name!r}")
        spelled = "bool B" if getattr(mask, "ndim", None) == 1 else "bool B N"
        check_shapes(owner, known, **{f"{presence}[{name!r}]": (mask, spelled)})
        there[name] = mask if mask.ndim == 2 else mask[:, None].expand(-1, known["N"])
    return [hide(part, there) for part in parts], there


def _as_tokens(part: Any) -> Any:
    """Return ``(B, D)`` as one token, ``(B, 1, D)``."""
    return part[:, None] if isinstance(part, Tensor) and part.ndim == 2 else part


def hide(parts: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put zeros where a mask is False. Selection, not multiplication, keeps NaN out of values and gradients."""
    return {name: hide_part(part, present.get(name)) for name, part in parts.items()}


def hide_part(part: Tensor, mask: Tensor | None) -> Tensor:
    """Put zeros where the mask ``(B, N)`` of a modality ``(B, N, D)`` is False."""
    return part if mask is None or _is_full(mask) else torch.where(mask[..., None], part, 0)


def _is_full(mask: Tensor) -> bool:
    """Whether a mask is known to hide nothing. A copy is saved then; on a GPU, to ask would cost more than the copy."""
    return why_unusual(mask) is None and mask.device.type == "cpu" and bool(mask.all())
