"""Matrix products of the vendor's that keep float32 sums in float32."""

import torch
from torch import Tensor


def product(left: Tensor, right: Tensor) -> Tensor:
    """left right in float32, without rounding to half precision on the way out."""
    if left.dtype == torch.float32:
        return left @ right
    if left.is_cuda and not torch.version.hip:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
