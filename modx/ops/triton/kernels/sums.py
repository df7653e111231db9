"""Sum the shares of programs in a fixed order, so that a result is bitwise the same from run to run."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["first_size", "second_size"])
def sum_splits_kernel(partials, first, second, first_size, second_size, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """`first` and `second`, which lie side by side in each of the (SPLITS, first_size + second_size) partials."""
    size = first_size + second_size
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(partials + split * size.to(tl.int64) + at, mask=at < size, other=0.0)
    tl.store(first + at, total.to(first.dtype.element_ty), mask=at < first_size)
    behind = (at >= first_size) & (at < size)
    tl.store(second + at - first_size, total.to(second.dtype.element_ty), mask=behind)
