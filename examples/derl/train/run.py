"""The folder of a run: its lock, its options and its model."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase, Trainer

from derl.data.files import is_draft, write_file
from derl.train.checkpoint import find_checkpoint
from derl.train.options import Options, fill_in
from derl.train.processes import by_main

OPTIONS = "options.json"
DATA = "data.safetensors"
LOCK = ".lock"
LOCK_SECONDS = 10.0  # data loaders of a killed run end within five


class RunError(ValueError):
    """The folder of a run cannot be used as requested."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: options, converted data, checkpoints, TensorBoard logs, the model and the report."""

    path: Path

    @classmethod
    @contextmanager
    def open(cls, options: Options) -> Iterator[tuple["RunFolder", Options]]:
        """Lock a new folder, or the folder of an earlier run, and return it with the options of the run.

        An earlier run keeps the options it was started with. A run that torchrun restarts continues in its
        ``options.output_dir``.

        Raises:
            RunError: The folder cannot be written, is not empty, does not hold a run, or is locked by another process.
        """
        with ExitStack() as held:
            path, resume = by_main(lambda: _claim(options, held))
            folder, resolved = cls(path), replace(options, resume=resume)
            if resume is not None or options.evaluate is not None:
                resolved = folder.restore(resolved)
            yield folder, resolved

    def abandon(self) -> None:
        """Remove the folder if it holds nothing beyond options and converted data."""
        entries = list(self.path.iterdir())
        if all(entry.name in (OPTIONS, DATA, LOCK) or is_draft(entry) for entry in entries):
            for entry in entries:
                entry.unlink()
            self.path.rmdir()

    @property
    def remedy(self) -> str:
        """Describe how to continue after the run has stopped early."""
        if (self.path / OPTIONS).exists():
            processes = PartialState().num_processes
            start = ["python"] if processes == 1 else ["torchrun", "--nproc-per-node", str(processes)]
            return f"saved files are kept; to resume: {shlex.join([*start, sys.argv[0], '--resume', str(self.path)])}"
        return "nothing was saved; start again"

    def last_checkpoint(self) -> str | None:
        """Return the newest complete checkpoint, or None.

        Raises:
            DataError: The checkpoint has changed since it was written.
        """
        return by_main(lambda: find_checkpoint(self.path / "checkpoints"))

    def save_model(self, trainer: Trainer, tokenizer: PreTrainedTokenizerBase | None, criterion: str) -> None:
        """Save the selected model atomically, with its epoch and the criterion that selected it."""
        draft, model, before = (self.path / name for name in (".model.tmp", "model", ".model.before.tmp"))
        by_main(lambda: [shutil.rmtree(folder, ignore_errors=True) for folder in (draft, before)])
        trainer.save_model(str(draft))  # every process takes part, since weights may be sharded
        if trainer.is_world_process_zero():
            if tokenizer is not None:
                tokenizer.save_pretrained(str(draft))
            write_file(draft / "checkpoint.json", json.dumps(_chosen(trainer, criterion), indent=2).encode())
            if model.exists():
                os.rename(model, before)
            os.rename(draft, model)
            shutil.rmtree(before, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()

    def checkpoint(self) -> dict[str, Any]:
        """Return the checkpoint that the model comes from."""
        found: dict[str, Any] = json.loads((self.path / "model" / "checkpoint.json").read_text())
        return found

    def report(self, pattern: str) -> Path:
        """Return the folder of the report: the run's own, or a subfolder for another evaluation pattern."""
        own = json.loads((self.path / OPTIONS).read_text()).get("eval_pattern")
        if pattern == own:
            return self.path
        folder = self.path / f"evaluated_on_{pattern}"
        folder.mkdir(exist_ok=True)
        return folder

    def restore(self, asked: Options) -> Options:
        """Return the options that the run was started with, with those of ``asked`` that apply to an earlier run.

        Raises:
            RunError: The folder holds no run, or no model to evaluate.
        """
        kept = {"resume": asked.resume, "evaluate": asked.evaluate}
        if asked.eval_pattern is not None:
            kept["eval_pattern"] = asked.eval_pattern
        try:
            saved = json.loads((self.path / OPTIONS).read_text())
            if not isinstance(saved, dict):
                raise ValueError(f"a {type(saved).__name__} in it")
            options = Options(**(saved | kept))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.path}: expected the folder of a run, with {OPTIONS}, found {error}; check the path."
            ) from error
        if options.evaluate is not None and not (self.path / "model" / "checkpoint.json").exists():
            remedy = shlex.join(["--resume", str(self.path)])
            raise RunError(f"{self.path}: expected a finished run, found no model; resume it: {remedy}.")
        return fill_in(options)


def _chosen(trainer: Trainer, criterion: str) -> dict[str, Any]:
    """Return the checkpoint that the trainer's model comes from."""
    state = trainer.state
    chosen = Path(state.best_model_checkpoint or f"checkpoint-{state.max_steps}").name.removeprefix("checkpoint-")
    return {
        "epoch": int(chosen) * state.num_train_epochs / max(state.max_steps, 1),
        "criterion": criterion,
        "value": state.best_metric,
    }


def _claim(options: Options, held: ExitStack) -> tuple[Path, str | None]:
    """Lock a folder for this process, and return it with the run to resume, if any."""
    resume = options.resume
    existing = resume or options.evaluate
    path = Path(existing or options.output_dir or time.strftime("runs/%Y%m%d-%H%M%S"))
    if existing is None and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and _was_started_by(options, path):
        existing = resume = str(path)
    try:
        if existing is None:
            _check_new(path)
            path.mkdir(parents=True, exist_ok=True)
        elif not (path / OPTIONS).is_file():
            raise RunError(
                f"{path}: expected the folder of a run, with {OPTIONS}, found none; check the path, or run the "
                "original command again."
            )
        held.enter_context(FileLock(path / LOCK, timeout=LOCK_SECONDS))
        if existing is None:
            _check_new(path)
            write_file(path / OPTIONS, json.dumps(asdict(options), indent=2).encode())
    except Timeout as error:
        raise RunError(
            f"{path}: expected a folder that no other process works in, found one that does; wait until it ends, or "
            "choose another --output_dir."
        ) from error
    except OSError as error:
        raise RunError(
            f"{path}: expected a folder that can be written, found {error.strerror}; choose another --output_dir, or "
            "check permissions and free space."
        ) from error
    return path, resume


def _was_started_by(options: Options, path: Path) -> bool:
    """Return whether the folder's run has the requested options, so that it can be resumed."""
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
            f"or resume that run: {shlex.join(['--resume', str(path)])}."
        )
