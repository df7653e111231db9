"""Save a module with its constructor arguments, and load it back."""

import copy
import json
from pathlib import Path
from typing import Any, Self

import torch

from ._checks import check
from ._modalities import ModalityModule

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Pretrained(ModalityModule):
    """A module that remembers its constructor arguments, all of which JSON can store."""

    _config: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The constructor arguments, except device and dtype. A property, because peft reads it as a mapping."""
        return copy.deepcopy(self._config)

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Build a module with newly initialized parameters.

        Args:
            config: The value of :attr:`config`.
            device: Device of the parameters. Default: PyTorch's default device.
            dtype: Floating-point dtype of the parameters. Default: PyTorch's default dtype.

        Raises:
            TypeError, ValueError: As for the constructor.
        """
        return cls(**config, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` to a folder. Requires the package safetensors."""
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
        """Load a module that :meth:`save_pretrained` wrote, in evaluation mode. Requires the package safetensors.

        Args:
            folder: Folder with ``config.json`` and ``model.safetensors``.
            device: Device of the parameters.
            dtype: Floating-point dtype of the parameters. Default: the dtype that was saved.

        Raises:
            ValueError: The weights and the config differ in their modalities.
        """
        from safetensors import safe_open

        folder = Path(folder)
        with safe_open(folder / WEIGHTS, "pt") as file:
            saved = json.loads((file.metadata() or {}).get("modalities", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        kept = next(iter(weights.values())).dtype
        module = cls.from_config(json.loads((folder / CONFIG).read_text()), device="meta", dtype=dtype or kept)
        expected = f"weights for the modalities in {CONFIG}, {module.modalities}"
        check(saved == list(module.modalities), "from_pretrained", expected, saved, f"use the {CONFIG} saved with them")
        module.to_empty(device=device).load_state_dict(weights)
        return module.eval()
