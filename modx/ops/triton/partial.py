"""Where the programs of a launch that share a sum put their parts, and how these are summed: in a fixed order."""

from itertools import accumulate

import torch
import triton
from torch import Tensor

from .kernels.sums import sum_splits_kernel

_BLOCK = 1024
_MAX_RESULTS = 4


class Parts:
    """Room for ``splits`` parts of one to four results; with a single split, the results themselves."""

    def __init__(self, results: list[Tensor], splits: int) -> None:
        self.results = results
        self.splits = splits
        self.stride = 0
        self.targets = results
        if splits > 1:
            sizes = [result.numel() for result in results]
            self.stride = sum(sizes)
            self._parts = results[0].new_empty(splits, self.stride, dtype=torch.float32)
            self.targets = list(self._parts[0].split(sizes))

    def sum(self) -> None:
        """Fill the results, once the launch has filled the parts."""
        if self.splits == 1:
            return
        missing = _MAX_RESULTS - len(self.results)
        ends = list(accumulate(result.numel() for result in self.results))
        sum_splits_kernel[(triton.cdiv(self.stride, _BLOCK),)](
            self._parts,
            *self.results,
            *[self.results[-1]] * missing,
            *ends,
            *[self.stride] * missing,
            SPLITS=self.splits,
            BLOCK=_BLOCK,
            enable_fp_fusion=True,
        )
