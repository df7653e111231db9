"""Checkpoints of safetensors and JSON only. Damaged ones are reported; unfinished ones are skipped."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from derl.data.console import say
from derl.data.files import checksum, whole, write_file
from derl.data.split import DataError

SEAL = "checksums.json"
OPTIMIZER = "optimizer.safetensors"


class SafeTrainer(Trainer):
    """A Trainer that writes checkpoints atomically and without pickles.

    The last file written is a seal with every file's size and SHA-256; only then are older checkpoints removed. If FSDP
    or DeepSpeed shards the optimizer, its state is in their format.
    """

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            (checkpoint / SEAL).unlink(missing_ok=True)
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(checkpoint)
            _rotate(folder, limit or 0, self.state.best_global_step)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        training_args = Path(output_dir or self.args.output_dir) / TRAINING_ARGS_NAME
        training_args.unlink(missing_ok=True)  # a pickle that nothing reads

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._is_sharded:
            _check_fit(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME, self.model)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        folder = Path(self._get_output_dir(None))  # the run may have moved since
        best = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        verify(best)
        self.state.best_model_checkpoint = str(best)
        super()._load_best_model()

    @property
    def _is_sharded(self) -> bool:
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self._is_sharded:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            state = self.optimizer.state_dict()
            tensors, others = _split_tensors(state["state"])
            facts = {"state": others, "param_groups": state["param_groups"]}
            _save(tensors, facts | {"scheduler": self.lr_scheduler.state_dict()}, Path(output_dir) / OPTIMIZER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._is_sharded:
            super()._load_optimizer_and_scheduler(checkpoint)
        elif checkpoint is not None:
            tensors, facts = _load(Path(checkpoint) / OPTIMIZER)
            _check_state(Path(checkpoint) / OPTIMIZER, tensors, facts, self.optimizer)
            state: dict[int, dict[str, Any]] = {int(key): dict(part) for key, part in facts["state"].items()}
            for name, tensor in tensors.items():
                index, _, key = name.partition(".")
                state[int(index)][key] = tensor
            self.optimizer.load_state_dict({"state": state, "param_groups": facts["param_groups"]})
            self.lr_scheduler.load_state_dict(facts["scheduler"])

    def _save_rng_state(self, output_dir: str) -> None:
        version, words, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - libraries may draw from it
        tensors = {
            "python": torch.tensor(words),
            "numpy": torch.from_numpy(keys.astype(np.int64)),
            "torch": torch.get_rng_state(),
        }
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            tensors[f"cuda.{index}"] = torch.cuda.get_rng_state(index)
        facts = {"python": [version, gauss], "numpy": [name, position, has_gauss, cached]}
        Path(output_dir).mkdir(parents=True, exist_ok=True)  # another process may have made it
        _save(tensors, facts, self._rng_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        if not self._rng_file(checkpoint).exists():
            say(f"{checkpoint} was written by another number of processes; random states start anew")
            return
        tensors, facts = _load(self._rng_file(checkpoint))
        version, gauss = facts["python"]
        random.setstate((version, tuple(tensors["python"].tolist()), gauss))
        name, *rest = facts["numpy"]
        np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
        torch.set_rng_state(tensors["torch"])
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            if f"cuda.{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda.{index}"], index)

    def _rng_file(self, folder: str) -> Path:
        rank = f"_{self.args.process_index}" if self.args.world_size > 1 else ""
        return Path(folder) / f"rng_state{rank}.safetensors"


def _rotate(folder: Path, limit: int, best: int | None) -> None:
    """Remove all checkpoints except the newest and the best, and the leftovers of killed processes.

    The seal is deleted first, so that a partly removed checkpoint is skipped.
    """
    checkpoints = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step)
    sealed = [checkpoint for checkpoint in checkpoints if (checkpoint / SEAL).exists()]
    spare = [checkpoint for checkpoint in sealed[:-1] if _step(checkpoint) != best]
    surplus = spare[: max(len(sealed) - limit, 0)] if limit else []
    for checkpoint in [each for each in checkpoints if each not in sealed or each in surplus]:
        (checkpoint / SEAL).unlink(missing_ok=True)
        shutil.rmtree(checkpoint)


def find_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint in ``folder``, or None.

    Raises:
        DataError: The checkpoint has changed since it was written.
    """
    sealed = sorted((path.parent for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{SEAL}")), key=_step)
    for checkpoint in sealed:
        verify(checkpoint)
    if not sealed:
        return None
    with _explained(sealed[-1] / TRAINER_STATE_NAME):
        state = json.loads((sealed[-1] / TRAINER_STATE_NAME).read_text())
        if state["global_step"] != _step(sealed[-1]):
            raise ValueError(f"global_step {state['global_step']}")
        best = state["best_global_step"]
    if best and best not in map(_step, sealed):
        _refuse(folder / f"{PREFIX_CHECKPOINT_DIR}-{best}", "the checkpoint with the lowest error", "none", sealed[0])
    return str(sealed[-1])


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def seal(checkpoint: Path) -> None:
    """Write the last file of a checkpoint, with every file's size and SHA-256."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    entries = {path.relative_to(checkpoint).as_posix(): _describe(path) for path in files}
    write_file(checkpoint / SEAL, json.dumps(entries, indent=2).encode())


def verify(checkpoint: Path) -> None:
    """Compare a checkpoint's files with its seal.

    Raises:
        DataError: A file has changed; the message names the first one.
    """
    with _explained(checkpoint / SEAL):
        entries = json.loads((checkpoint / SEAL).read_text())
    if not isinstance(entries, dict) or not entries:
        _refuse(checkpoint / SEAL, "files with their checksums", type(entries).__name__, checkpoint)
    for name, entry in entries.items():
        path = checkpoint / name
        found = _describe(path) if path.is_file() else "no file"
        if found != entry:
            _refuse(path, f"the file that was saved, {entry}", str(found), checkpoint)


def _check_fit(path: Path, model: nn.Module) -> None:
    """Check names and shapes before loading anything."""
    expected = {name: list(part.shape) for name, part in model.state_dict().items()}
    with _explained(path), safe_open(path, "pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a dict
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            wanted, came = (shapes.get(name, "no such weight") for shapes in (expected, found))
            _refuse(path, f"{name}: {wanted}, as this run's model has it", str(came), path.parent)


def _check_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any], optimizer: Any) -> None:
    groups = [len(group["params"]) for group in optimizer.param_groups]
    found = [len(group["params"]) for group in facts["param_groups"]]
    if found != groups:
        _refuse(path, f"groups of {groups} parameters, as this run's optimizer has them", str(found), path.parent)
    if not facts["state"]:
        _refuse(path, "the state of an optimizer that has taken steps", "none", path.parent)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, key in product(facts["state"], sorted({name.partition(".")[2] for name in tensors})):
        tensor, shape = tensors.get(f"{index}.{key}"), parameters[int(index)].shape
        if tensor is None or (tensor.ndim and tensor.shape != shape):
            came = "none" if tensor is None else str(list(tensor.shape))
            _refuse(path, f"{key} of shape {list(shape)} for parameter {index}", came, path.parent)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        _refuse(path, "a part of a checkpoint", f"{type(error).__name__}: {error}", path.parent)


def _refuse(path: Path, expected: str, found: str, checkpoint: Path) -> NoReturn:
    raise DataError(
        f"{path}: expected {expected}, found {found}; remove {checkpoint} and any checkpoint after it, to resume "
        "from the one before, or from the start."
    )


def _describe(path: Path) -> str:
    return f"{path.stat().st_size} bytes with sha256 {checksum(path)}"


def _split_tensors(state: dict[int, dict[str, Any]]) -> tuple[dict[str, Tensor], dict[int, dict[str, Any]]]:
    tensors, others = {}, {}
    for index, part in state.items():
        tensors |= {f"{index}.{key}": value.contiguous() for key, value in part.items() if isinstance(value, Tensor)}
        others[index] = {key: value for key, value in part.items() if not isinstance(value, Tensor)}
    return tensors, others


def _save(tensors: dict[str, Tensor], facts: dict[str, Any], path: Path) -> None:
    with whole(path) as draft:
        save_file(tensors, draft, {"format": "pt", "facts": json.dumps(facts)})


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _explained(path), safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, json.loads(file.metadata()["facts"])
