"""Save a module with what built it, and build it from there."""

import copy
import json
from pathlib import Path
from typing import Any, Self

import torch

from ._checks import check
from ._modalities import ModalityModule

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Pretrained(ModalityModule):
    """A module that knows the arguments of its constructor, all of which JSON can hold."""

    _config: dict[str, Any]

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this module, without device and dtype."""
        return copy.deepcopy(self._config)

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Build a module with new parameters from what :meth:`config` returned."""
        return cls(**config, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; needs the package safetensors."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: part.detach().contiguous() for name, part in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS, {"modalities": json.dumps(self.modalities)})
        (folder / CONFIG).write_text(json.dumps(self._config, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> Self:
        """Read what :meth:`save_pretrained` wrote, in evaluation mode; needs the package safetensors.

        Args:
            folder: With ``config.json`` and ``model.safetensors``.
            device: Where the parameters go.
            dtype: Their dtype. Default: the one saved.

        Raises:
            ValueError: The weights are of other modalities than the config.
        """
        from safetensors import safe_open

        folder = Path(folder)
        with safe_open(folder / WEIGHTS, "pt") as file:
            saved = json.loads((file.metadata() or {}).get("modalities", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = next(iter(weights.values())).dtype
        module = cls.from_config(json.loads((folder / CONFIG).read_text()), device="meta", dtype=dtype or kept)
        expected = f"weights of the modalities of {CONFIG}, {module.modalities}"
        check(saved == list(module.modalities), "from_pretrained", expected, saved, f"use the {CONFIG} saved with them")
        module.to_empty(device=device).load_state_dict(weights)
        return module.eval()
