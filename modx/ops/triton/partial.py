"""Where the programs of a launch that share a sum put their parts, and how these are summed: in a fixed order."""

import torch
import triton
from torch import Tensor

from .kernels.sums import sum_splits_kernel

_BLOCK = 1024


class Parts:
    """Room for ``splits`` parts of one or two results; with a single split, the results themselves."""

    def __init__(self, results: list[Tensor], splits: int) -> None:
        self.results = results
        self.splits = splits
        self.stride = 0
        self.targets = results
        if splits > 1:
            self.stride = sum(result.numel() for result in results)
            self._parts = results[0].new_empty(splits, self.stride, dtype=torch.float32)
            self.targets = [*self._parts[0].split([result.numel() for result in results])]

    def sum(self) -> None:
        """Fill the results, once the launch has filled the parts."""
        if self.splits == 1:
            return
        first, second = self.results[0], self.results[-1]
        sum_splits_kernel[(triton.cdiv(self.stride, _BLOCK),)](
            self._parts,
            first,
            second,
            first.numel(),
            self.stride - first.numel(),
            SPLITS=self.splits,
            BLOCK=_BLOCK,
            enable_fp_fusion=True,
        )
