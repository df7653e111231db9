"""FrontEnd: two strided convolutions over values, velocities and what was observed; the same in every model."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL, STRIDE, DEPTH = 5, 2, 2
VELOCITY = 3.0  # differences between neighbors are small beside values


class FrontEnd(nn.Module):
    """Turn a modality's frames into a quarter as many features.

    Args:
        channels: C, features per frame.
        dim: D, width of the result.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        widths = (2 * channels + 1, *[dim] * DEPTH)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, dim, KERNEL, STRIDE, KERNEL // 2) for width in widths[:DEPTH]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, dim) for _ in range(DEPTH))

    def forward(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``(B, L / 4, D)``, and bool ``(B, L / 4)``: whether any frame that they read was observed.

        Args:
            values: ``(B, L, C)``.
            observed: Bool ``(B, L)``.
        """
        velocities = VELOCITY * torch.diff(values, dim=1, prepend=values[:, :1])
        x = torch.cat([values, velocities, observed[..., None].to(values.dtype)], 2).mT
        seen = observed[:, None].float()
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x)))
            seen = F.max_pool1d(seen, KERNEL, STRIDE, KERNEL // 2)
        return x.mT, seen[:, 0] > 0


def reduced(length: int) -> int:
    """Return how many features come of ``length`` frames."""
    for _ in range(DEPTH):
        length = -(-length // STRIDE)
    return length
