"""Sum the splits of a result in a fixed order, so that runs agree bit for bit."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["end0", "end1", "end2", "end3"])
def sum_splits_kernel(
    buffers, out0, out1, out2, out3, end0, end1, end2, end3, SPLITS: tl.constexpr, BLOCK: tl.constexpr
):
    """Sum (SPLITS, size) buffers over SPLITS into up to four results, which lie end to end in each buffer."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(buffers + split * end3.to(tl.int64) + at, mask=at < end3, other=0.0)
    tl.store(out0 + at, total.to(out0.dtype.element_ty), mask=at < end0)
    tl.store(out1 + at - end0, total.to(out1.dtype.element_ty), mask=(at >= end0) & (at < end1))
    tl.store(out2 + at - end1, total.to(out2.dtype.element_ty), mask=(at >= end1) & (at < end2))
    tl.store(out3 + at - end2, total.to(out3.dtype.element_ty), mask=(at >= end2) & (at < end3))
