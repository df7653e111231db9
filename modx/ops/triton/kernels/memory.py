"""Load and store rows of a matrix, without masks where all elements are known to exist."""

import triton
import triton.language as tl


@triton.jit
def load_rows(base, rows, exist, D: tl.constexpr, BLOCK: tl.constexpr, ALL: tl.constexpr = False):
    """Load (rows, BLOCK), with zeros beyond width D and in rows that do not exist. ALL means that every row exists."""
    columns = tl.arange(0, BLOCK)
    at = base + rows[:, None] * D + columns[None, :]
    if ALL and D == BLOCK:
        tile = tl.load(at)
    elif ALL:
        tile = tl.load(at, mask=(columns < D)[None, :], other=0.0)
    elif D == BLOCK:
        tile = tl.load(at, mask=exist[:, None], other=0.0)
    else:
        tile = tl.load(at, mask=exist[:, None] & (columns < D)[None, :], other=0.0)
    return tile


@triton.jit
def load_columns(base, rows, exist, D: tl.constexpr, BLOCK: tl.constexpr, ALL: tl.constexpr = False):
    """Load (BLOCK, rows), the transpose of ``load_rows``."""
    columns = tl.arange(0, BLOCK)
    at = base + rows[None, :] * D + columns[:, None]
    if ALL and D == BLOCK:
        tile = tl.load(at)
    elif ALL:
        tile = tl.load(at, mask=(columns < D)[:, None], other=0.0)
    elif D == BLOCK:
        tile = tl.load(at, mask=exist[None, :], other=0.0)
    else:
        tile = tl.load(at, mask=exist[None, :] & (columns < D)[:, None], other=0.0)
    return tile


@triton.jit
def store_rows(base, rows, exist, tile, D: tl.constexpr, BLOCK: tl.constexpr):
    """Store a (rows, BLOCK) tile in the dtype of its target."""
    columns = tl.arange(0, BLOCK)
    at = base + rows[:, None] * D + columns[None, :]
    if D == BLOCK:
        tl.store(at, tile.to(base.dtype.element_ty), mask=exist[:, None])
    else:
        tl.store(at, tile.to(base.dtype.element_ty), mask=exist[:, None] & (columns < D)[None, :])


@triton.jit
def load_vector(at, exist, ALL: tl.constexpr = False):
    """Load a vector as float32, with zeros where an element does not exist."""
    if ALL:
        vector = tl.load(at)
    else:
        vector = tl.load(at, mask=exist, other=0.0)
    return vector.to(tl.float32)
