"""A run's folder and where its figures come from."""

import json
import os
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import get_last_checkpoint

from derl.options import Options, describe_selection, fill_in
from derl.processes import by_main

OPTIONS = "options.json"
DATA = "data.safetensors"


class RunError(ValueError):
    """A run's folder cannot be used as asked."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: options, converted data, checkpoints, TensorBoard logs, the model and the report."""

    path: Path

    @classmethod
    def open(cls, options: Options) -> "RunFolder":
        """Make a new folder, or open that of the run to go on with, whose options then replace ``options``.

        Raises:
            RunError: the folder cannot be written, holds something already, or holds no run.
        """
        existing = options.resume or options.evaluate
        if existing is not None:
            folder = cls(Path(existing))
            folder._restore(options)
        else:
            folder = by_main(lambda: cls._create(options))
        return folder

    def abandon(self) -> None:
        """Remove the folder again where a run ended before it held more than its options and converted data."""
        entries = list(self.path.iterdir())
        if {entry.name for entry in entries} <= {OPTIONS, DATA}:
            for entry in entries:
                entry.unlink()
            self.path.rmdir()

    def last_checkpoint(self) -> str | None:
        """The newest checkpoint; None where there is none yet."""
        checkpoints = self.path / "checkpoints"
        return get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None

    def save_model(self, trainer: Trainer, tokenizer: PreTrainedTokenizerBase | None, options: Options) -> None:
        """Keep the chosen model, and which epoch it comes from."""
        trainer.save_model(str(self.path / "model"))  # every process has a part in it, where weights are sharded
        if trainer.is_world_process_zero():
            self._describe_model(trainer, tokenizer, options)
        trainer.accelerator.wait_for_everyone()

    def _describe_model(self, trainer: Trainer, tokenizer: PreTrainedTokenizerBase | None, options: Options) -> None:
        (self.path / "model" / "training_args.bin").unlink()  # a pickle, of what OPTIONS holds
        if tokenizer is not None:
            tokenizer.save_pretrained(str(self.path / "model"))
        state = trainer.state
        chosen = Path(state.best_model_checkpoint or f"checkpoint-{state.max_steps}").name.removeprefix("checkpoint-")
        checkpoint = {
            "epoch": int(chosen) * state.num_train_epochs / max(state.max_steps, 1),
            "criterion": describe_selection(options),
            "value": state.best_metric,
        }
        (self.path / "model" / "checkpoint.json").write_text(json.dumps(checkpoint, indent=2))

    def checkpoint(self) -> dict[str, Any]:
        """Which checkpoint the model is."""
        found: dict[str, Any] = json.loads((self.path / "model" / "checkpoint.json").read_text())
        return found

    def report(self, options: Options) -> Path:
        """Where the report goes: beside the model, or below it if judged by another pattern than the run's own."""
        own = json.loads((self.path / OPTIONS).read_text()).get("eval_pattern")
        if options.eval_pattern == own:
            return self.path
        folder = self.path / f"judged_by_{options.eval_pattern}"
        folder.mkdir(exist_ok=True)
        return folder

    @classmethod
    def _create(cls, options: Options) -> "RunFolder":
        path = Path(options.output_dir or time.strftime("runs/%Y%m%d-%H%M%S"))
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(
                f"{path}: expected a new or empty folder, found something in it; choose another --output_dir, "
                f"or go on with that run: --resume {path}."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / OPTIONS).write_text(json.dumps(asdict(options), indent=2))
        except OSError as error:
            raise RunError(
                f"{path}: expected a folder that can be written, found {error.strerror}; choose another --output_dir."
            ) from error
        return cls(path)

    def _restore(self, options: Options) -> None:
        try:
            saved = json.loads((self.path / OPTIONS).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise RunError(
                f"{self.path}: expected the folder of a run, with {OPTIONS}, found {error}; check the path."
            ) from error
        if not os.access(self.path, os.W_OK):
            raise RunError(f"{self.path}: expected a folder that can be written; check its permissions.")
        if options.evaluate is not None and not (self.path / "model" / "checkpoint.json").exists():
            raise RunError(
                f"{self.path}: expected a finished run, found no model; go on with it: --resume {self.path}."
            )
        kept: dict[str, Any] = {"resume": options.resume, "evaluate": options.evaluate}
        if options.eval_pattern is not None:
            kept["eval_pattern"] = options.eval_pattern
        for name, value in (saved | kept).items():
            setattr(options, name, value)
        fill_in(options)


def provenance(setup: Any, options: Options, folder: RunFolder, seconds: dict[str, float]) -> dict[str, Any]:
    """Everything a figure needs beside it: data, seed, checkpoint, command, machine and versions."""
    return {
        "model": setup.model_name,
        "seed": options.seed,
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": {
            name: version(name)
            for name in ("modx", "torch", "transformers", "torchmetrics", "safetensors", "tokenizers")
        }
        | {"python": platform.python_version()},
        "data": {
            "name": setup.data_name,
            "synthetic": setup.synthetic is not None,
            "modalities": list(setup.model.config.modalities),
            "sizes": {name: len(split) for name, split in setup.splits.items()},
        },
        "checkpoint": folder.checkpoint(),
        "seconds": seconds,
        "options": asdict(options),
    }


def machine() -> str:
    """Processor, cores, threads and accelerator."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {counted}, {device}"
