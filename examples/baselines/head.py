"""Head: the last linear layer of a core, exact under autocast."""

import torch
from torch import Tensor, nn


class Head(nn.Linear):
    """Compute outputs without autocast, since bf16 would leave a score two or three digits.

    Example:
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     Head(4, 1)(torch.randn(2, 4)).dtype
        torch.float32
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))
