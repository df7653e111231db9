"""Buffers for the partial sums of programs that share a result, summed in a fixed order."""

from collections.abc import Mapping
from itertools import accumulate

import torch
import triton
from torch import Tensor

from .kernels.sums import sum_splits_kernel

_BLOCK = 1024
_MAX_RESULTS = 4


class SplitBuffers:
    """Up to four results of a launch by name. Each split writes to its own buffer; a single split writes the results.

    A result that is None is not wanted and has no buffer.
    """

    def __init__(self, results: Mapping[str, Tensor | None], splits: int) -> None:
        wanted = {name: result for name, result in results.items() if result is not None}
        self.splits = splits
        self.stride = 0
        self._results = list(wanted.values())
        self._targets = wanted
        if splits > 1:
            sizes = [result.numel() for result in self._results]
            self.stride = sum(sizes)
            self._buffers = self._results[0].new_empty(splits, self.stride, dtype=torch.float32)
            self._targets = dict(zip(wanted, self._buffers[0].split(sizes), strict=True))

    def __getitem__(self, name: str) -> Tensor | None:
        """Return the target of the first split; each later split writes ``stride`` elements after the previous one."""
        return self._targets.get(name)

    def sum(self) -> None:
        """Sum the buffers into the results, after the launch."""
        if self.splits == 1:
            return
        *_, last = self._results
        missing = _MAX_RESULTS - len(self._results)
        ends = accumulate(result.numel() for result in self._results)
        sum_splits_kernel[(triton.cdiv(self.stride, _BLOCK),)](
            self._buffers,
            *self._results,
            *[last] * missing,
            *ends,
            *[self.stride] * missing,
            SPLITS=self.splits,
            BLOCK=_BLOCK,
            enable_fp_fusion=True,
        )
