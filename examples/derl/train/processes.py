"""Training in several processes, started by torchrun or accelerate."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch.utils.data import Sampler
from transformers import TrainingArguments

from derl.data.console import say

Result = TypeVar("Result")


def join() -> PartialState:
    """Join the other processes, if any; only the main process prints from then on."""
    state = PartialState(cpu=not torch.accelerator.is_available())
    if not state.is_main_process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return state


def by_main(function: Callable[[], Result]) -> Result:
    """Call ``function`` only in the main process; every process gets its result or its error."""
    state = PartialState()
    outcome: list[tuple[Result | None, Exception | None]] = [(None, None)]
    if state.is_main_process:
        try:
            outcome = [(function(), None)]
        except Exception as error:
            outcome = [(None, error)]
    result, error = broadcast_object_list(outcome)[0]
    if error is not None:
        raise error
    return result


def main_first(function: Callable[[], Result]) -> Result:
    """Call ``function`` in the main process, then in the others; every process gets its error."""
    results: list[Result] = []
    by_main(lambda: results.append(function()))
    return results[0] if results else function()


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    state = PartialState()
    if state.num_processes == 1:
        return flag
    return bool(reduce(torch.tensor(float(flag), device=state.device)).item())


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Use one GPU per process; if there are more, say how to use them.

    With several GPUs and one process, transformers would wrap the model in ``DataParallel``, and every batch would
    silently grow by their number.
    """
    if arguments.n_gpu > 1:
        say(
            f"using one of {arguments.n_gpu} GPUs; to use all of them, start with "
            f"torchrun --nproc-per-node {arguments.n_gpu} instead of python"
        )
        arguments._n_gpu = 1


class SharedBatches(Sampler[list[int]]):
    """Sample this process's part of every batch, in the same order as a single process.

    The sizes of the parts differ by at most one. If a batch has fewer samples than there are processes, the remaining
    processes get a sample of weight 0; see :meth:`weight`.

    Args:
        size: size of the dataset.
        batch_size: total over all processes.
        seed: seed of the order, to which the epoch is added.
        epoch: returns the current epoch.
        rank, count: rank of this process, and number of processes.
    """

    def __init__(self, size: int, batch_size: int, seed: int, epoch: Callable[[], int], rank: int, count: int) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, epoch
        self.rank, self.count = rank, count

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        for batch in torch.randperm(self.size, generator=generator).split(self.batch_size):
            own = self._own(batch.tolist())
            yield own or batch[:1].tolist()

    def weight(self, step: int) -> float:
        """Return the weight of this process's mean loss that makes the mean over processes the batch's loss."""
        batch = range(self.size)[step % len(self) * self.batch_size :][: self.batch_size]
        return len(self._own(batch)) * self.count / len(batch)

    def _own(self, batch: Sequence[int]) -> list[int]:
        start, end = (len(batch) * rank // self.count for rank in (self.rank, self.rank + 1))
        return list(batch[start:end])
