"""The folder of a run: who holds it, what it was started with, and the model that it leaves."""

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
LOCK_SECONDS = 10.0  # a killed run's processes that load data notice it within five


class RunError(ValueError):
    """A run's folder cannot be used as asked."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run: options, converted data, checkpoints, TensorBoard logs, the model and the report."""

    path: Path

    @classmethod
    @contextmanager
    def open(cls, options: Options) -> Iterator[tuple["RunFolder", Options]]:
        """Hold a new folder, or that of an earlier run, and return it with the options to run by.

        An earlier run goes on by the options that it was started with. A run that torchrun starts again goes on in its
        ``options.output_dir``.

        Raises:
            RunError: the folder cannot be written, holds something already, holds no run, or is another process's.
        """
        with ExitStack() as held:
            path, resume = by_main(lambda: _claim(options, held))
            folder, resolved = cls(path), replace(options, resume=resume)
            if resume is not None or options.evaluate is not None:
                resolved = folder.restore(resolved)
            yield folder, resolved

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
            start = ["python"] if processes == 1 else ["torchrun", "--nproc-per-node", str(processes)]
            return f"what was saved is kept; to go on: {shlex.join([*start, sys.argv[0], '--resume', str(self.path)])}"
        return "nothing was saved; start again"

    def last_checkpoint(self) -> str | None:
        """The newest checkpoint that was written to its end; None where there is none yet.

        Raises:
            DataError: it is no longer as it was written.
        """
        return by_main(lambda: find_checkpoint(self.path / "checkpoints"))

    def save_model(self, trainer: Trainer, tokenizer: PreTrainedTokenizerBase | None, criterion: str) -> None:
        """Save the chosen model, whole or not at all, with the epoch it comes from and the criterion that chose it."""
        draft, model, before = (self.path / name for name in (".model.tmp", "model", ".model.before.tmp"))
        by_main(lambda: [shutil.rmtree(folder, ignore_errors=True) for folder in (draft, before)])
        trainer.save_model(str(draft))  # every process has a part in it, where weights are sharded
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
        """Which checkpoint the model is."""
        found: dict[str, Any] = json.loads((self.path / "model" / "checkpoint.json").read_text())
        return found

    def report(self, pattern: str) -> Path:
        """Where the report goes: beside the model, or one folder below if evaluated under another pattern."""
        own = json.loads((self.path / OPTIONS).read_text()).get("eval_pattern")
        if pattern == own:
            return self.path
        folder = self.path / f"judged_by_{pattern}"
        folder.mkdir(exist_ok=True)
        return folder

    def restore(self, asked: Options) -> Options:
        """The options that the run was started with, with those of ``asked`` that go with an earlier run.

        Raises:
            RunError: the folder holds no run, or no model to evaluate.
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
            raise RunError(f"{self.path}: expected a finished run, found no model; go on with it: {remedy}.")
        return fill_in(options)


def _chosen(trainer: Trainer, criterion: str) -> dict[str, Any]:
    """Which checkpoint the trainer's model is."""
    state = trainer.state
    chosen = Path(state.best_model_checkpoint or f"checkpoint-{state.max_steps}").name.removeprefix("checkpoint-")
    return {
        "epoch": int(chosen) * state.num_train_epochs / max(state.max_steps, 1),
        "criterion": criterion,
        "value": state.best_metric,
    }


def _claim(options: Options, held: ExitStack) -> tuple[Path, str | None]:
    """Lock a folder for this process, and return it with the run to go on with, if any."""
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
    return path, resume


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
            f"or go on with that run: {shlex.join(['--resume', str(path)])}."
        )
