"""Change: one random change per clip, the same for everything that is seen of it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

TURNS = {"skeleton": (0.0, 25.0, 0.0), "inertial": (15.0, 15.0, 15.0)}  # largest angle about x, y (up) and z, degrees
SCALE = 0.1  # standard deviation of a clip's scale
JITTER = 0.03  # standard deviation of noise, in g, in 100 degrees per second and in lengths of the lower spine
CUT, GROW = 0.07, 0.03  # largest share of a clip that is cut from an end, or at which the end stands still


class Change(NamedTuple):
    """Times, rotations, scales and noise for a batch of clips.

    Attributes:
        start, end: ``(B,)``, where a clip starts and ends, as a share of its length.
        turns: ``(B, 3, 3)`` for the skeleton, and for the inertial unit, whose two sensors turn together.
        scales: ``(B, 1, 1)`` per modality.
        seed: Seed of the noise.
    """

    start: Tensor
    end: Tensor
    turns: dict[str, Tensor]
    scales: dict[str, Tensor]
    seed: int

    def apply(self, name: str, values: Tensor) -> Tensor:
        """Change the values ``(B, L, C)`` of a modality, with C a multiple of 3."""
        turn = self.turns["skeleton" if name == "skeleton" else "inertial"]
        turned = (values.unflatten(2, (-1, 3)) @ turn[:, None]).flatten(2)
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(self.seed))
        return turned * self.scales[name] + JITTER * noise


def draw_change(names: tuple[str, ...], batch_size: int, generator: torch.Generator) -> Change:
    """Draw a change per clip."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch_size, *shape, generator=generator)

    start, end = uniform(-GROW, CUT), 1 - uniform(-GROW, CUT)
    turns = {
        name: _rotation(uniform(-1, 1, 3) * torch.tensor(limits) * math.pi / 180) for name, limits in TURNS.items()
    }
    scales = {name: 1 + SCALE * torch.randn(batch_size, 1, 1, generator=generator) for name in names}
    return Change(start, end, turns, scales, int(torch.randint(2**31, (), generator=generator)))


def _rotation(angles: Tensor) -> Tensor:
    """Return rotations ``(B, 3, 3)`` by angles ``(B, 3)`` about x, y and z, in radians."""
    generators = torch.zeros(3, 3, 3)
    for axis in range(3):
        generators[axis, (axis + 2) % 3, (axis + 1) % 3] = 1.0
        generators[axis, (axis + 1) % 3, (axis + 2) % 3] = -1.0
    x, y, z = (torch.linalg.matrix_exp(angles[:, axis, None, None] * generators[axis]) for axis in range(3))
    return x @ y @ z
