"""Several processes, started by torchrun or accelerate: what they share out, and what they have to agree on."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from torch.utils.data import Sampler

Result = TypeVar("Result")


def join() -> PartialState:
    """Join the other processes, if there are any; all but the main one stop printing."""
    state = PartialState(cpu=not torch.accelerator.is_available())
    if not state.is_main_process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return state


def by_main(function: Callable[[], Result]) -> Result:
    """Call ``function`` in the main process alone; all get its result, or its error."""
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
    """Call ``function`` in the main process and then in the others, who find what it left; all get its error."""
    results: list[Result] = []
    by_main(lambda: results.append(function()))
    return results[0] if results else function()


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    state = PartialState()
    if state.num_processes == 1:
        return flag
    return bool(reduce(torch.tensor(float(flag), device=state.device)).item())


class SharedBatches(Sampler[list[int]]):
    """This process's part of every batch, in the order that one process alone would draw.

    Parts differ by one sample at most. Where a batch has fewer samples than there are processes, those that go empty
    get one that counts for nothing: :meth:`weight`.

    Args:
        size: of the dataset.
        batch_size: of all processes together.
        seed: of the order, with the epoch added.
        epoch: says which one it is.
        rank, count: of this process, and how many there are.
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
        """What this process's mean loss counts beside the others', so that their mean is the whole batch's."""
        batch = range(self.size)[step % len(self) * self.batch_size :][: self.batch_size]
        return len(self._own(batch)) * self.count / len(batch)

    def _own(self, batch: Sequence[int]) -> list[int]:
        start, end = (len(batch) * rank // self.count for rank in (self.rank, self.rank + 1))
        return list(batch[start:end])
