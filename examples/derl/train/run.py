"""A run's folder and where its figures come from."""

import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase, Trainer

from derl.data.files import is_draft, write_file
from derl.train.checkpoint import find_checkpoint
from derl.train.options import Options, describe_selection, fill_in
from derl.train.processes import by_main

OPTIONS = "options.json"
DATA = "data.safetensors"
LOCK = ".lock"
LOCK_SECONDS = 10.0  # a killed run's processes that load data notice it within five


class RunError(ValueError):
    """A run's folder cannot be used as asked."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: options, converted data, checkpoints, TensorBoard logs, the model and the report."""

    path: Path

    @classmethod
    @contextmanager
    def open(cls, options: Options) -> Iterator["RunFolder"]:
        """Hold a new folder, or that of the run to go on with, whose options then replace ``options``.

        A run that torchrun starts again goes on in its ``options.output_dir``.

        Raises:
            RunError: the folder cannot be written, holds something already, holds no run, or is another process's.
        """
        with ExitStack() as held:
            path, options.resume = by_main(lambda: _claim(options, held))
            folder = cls(path)
            if options.resume is not None or options.evaluate is not None:
                folder._restore(options)
            yield folder

    def abandon(self) -> None:
        """Remove the folder again where a run ended before it held more than its options and converted data."""
        entries = list(self.path.iterdir())
        if all(entry.name in (OPTIONS, DATA, LOCK) or is_draft(entry) for entry in entries):
            for entry in entries:
                entry.unlink()
            self.path.rmdir()

    @property
    def remedy(self) -> str:
        """What to do once a run has broken off."""
        if (self.path / OPTIONS).exists():
            processes = PartialState().num_processes
            start = "python" if processes == 1 else f"torchrun --nproc-per-node {processes}"
            return f"what was saved is kept; to go on: {start} {sys.argv[0]} --resume {self.path}"
        return "nothing was saved; start again"

    def last_checkpoint(self) -> str | None:
        """The newest checkpoint that was written to its end; None where there is none yet.

        Raises:
            DataError: it is no longer as it was written.
        """
        return by_main(lambda: find_checkpoint(self.path / "checkpoints"))

    def save_model(self, trainer: Trainer, tokenizer: PreTrainedTokenizerBase | None, options: Options) -> None:
        """Keep the chosen model, and which epoch it comes from, whole or not at all."""
        draft, model, before = (self.path / name for name in (".model.tmp", "model", ".model.before.tmp"))
        by_main(lambda: [shutil.rmtree(folder, ignore_errors=True) for folder in (draft, before)])
        trainer.save_model(str(draft))  # every process has a part in it, where weights are sharded
        if trainer.is_world_process_zero():
            self._describe_model(draft, trainer, tokenizer, options)
            if model.exists():
                os.rename(model, before)
            os.rename(draft, model)
            shutil.rmtree(before, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()

    def _describe_model(
        self, folder: Path, trainer: Trainer, tokenizer: PreTrainedTokenizerBase | None, options: Options
    ) -> None:
        if tokenizer is not None:
            tokenizer.save_pretrained(str(folder))
        state = trainer.state
        chosen = Path(state.best_model_checkpoint or f"checkpoint-{state.max_steps}").name.removeprefix("checkpoint-")
        checkpoint = {
            "epoch": int(chosen) * state.num_train_epochs / max(state.max_steps, 1),
            "criterion": describe_selection(options),
            "value": state.best_metric,
        }
        write_file(folder / "checkpoint.json", json.dumps(checkpoint, indent=2).encode())

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

    def _restore(self, options: Options) -> None:
        try:
            saved = json.loads((self.path / OPTIONS).read_text())
            if not isinstance(saved, dict):
                raise ValueError(f"a {type(saved).__name__} in it")
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.path}: expected the folder of a run, with {OPTIONS}, found {error}; check the path."
            ) from error
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


def _claim(options: Options, held: ExitStack) -> tuple[Path, str | None]:
    """Lock a folder for this process, and return it with the run to go on with, if any."""
    existing = options.resume or options.evaluate
    path = Path(existing or options.output_dir or time.strftime("runs/%Y%m%d-%H%M%S"))
    if existing is None and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and _was_started_by(options, path):
        existing = options.resume = str(path)
    try:
        if existing is None:
            _check_new(path)
            path.mkdir(parents=True, exist_ok=True)
        elif not (path / OPTIONS).is_file():
            raise RunError(
                f"{path}: expected the folder of a run, with {OPTIONS}, found none; check the path, or start the run "
                "again by the command it was started with."
            )
        held.enter_context(FileLock(path / LOCK, timeout=LOCK_SECONDS))
        if existing is None:
            _check_new(path)
            write_file(path / OPTIONS, json.dumps(asdict(options), indent=2).encode())
    except Timeout as error:
        raise RunError(
            f"{path}: expected a folder that no other process works in, found one that does; wait for its end, or "
            "choose another --output_dir."
        ) from error
    except OSError as error:
        raise RunError(
            f"{path}: expected a folder that can be written, found {error.strerror}; choose another --output_dir, or "
            "check its permissions and room."
        ) from error
    return path, options.resume


def _was_started_by(options: Options, path: Path) -> bool:
    """Whether the folder's run has the same options, so that to go on is to do what was asked for."""
    try:
        return bool(json.loads((path / OPTIONS).read_text()) == json.loads(json.dumps(asdict(options))))
    except (OSError, ValueError):
        return False


def _check_new(path: Path) -> None:
    if path.exists() and (
        not path.is_dir() or any(entry.name != LOCK and not is_draft(entry) for entry in path.iterdir())
    ):
        raise RunError(
            f"{path}: expected a new or empty folder, found something in it; choose another --output_dir, "
            f"or go on with that run: --resume {path}."
        )


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
    """Processor, cores, threads, accelerator, and the mode of MKL's matmuls."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    mode = os.environ.get("MKL_CBWR", "unset")
    return f"{processor()}, {os.cpu_count()} cores, {counted}, {device}, MKL_CBWR {mode}"


def processor() -> str:
    """The CPU's name, or its architecture where the system tells no more."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
