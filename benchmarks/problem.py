"""The benchmark problems of the op: sizes, random inputs, and their order when time is limited.

T tokens, D width, H hidden width, P private experts per group, S shared experts, K = P + S experts per token.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

SMALL = 4096  # up to this many tokens the launches may cost more than the work
NAMES = ("x", "router_weights", "w1", "b1", "w2", "b2")


@dataclass(frozen=True)
class Problem:
    """One size of the op; the hidden width is 2 D by default."""

    tokens: int
    dim: int
    hidden_dim: int
    num_private: int = 1
    num_shared: int = 3
    num_groups: int = 3
    dtype: str = "bfloat16"

    @classmethod
    def of(cls, tokens: int, dim: int, **others: Any) -> "Problem":
        return cls(tokens, dim, **({"hidden_dim": 2 * dim} | others))

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Divide the tokens into groups as evenly as possible."""
        share, rest = divmod(self.tokens, self.num_groups)
        return tuple(share + (group < rest) for group in range(self.num_groups))

    @property
    def num_experts(self) -> int:
        return self.num_groups * self.num_private + self.num_shared

    @property
    def counts(self) -> dict[str, Any]:
        return {"group_sizes": self.group_sizes, "num_private": self.num_private, "num_shared": self.num_shared}

    @property
    def flops(self) -> dict[str, int]:
        """Return the FLOPs of the formula; recomputation is not counted."""
        forward = 4 * self.tokens * self.dim * self.hidden_dim * (self.num_private + self.num_shared)
        return {"forward": forward, "step": 3 * forward}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        split = f"{self.num_groups} groups, P:S {self.num_private}:{self.num_shared}"
        return f"T {self.tokens}, D {self.dim}, H {self.hidden_dim}, {split}, {self.dtype}"


def make_inputs(problem: Problem, device: torch.device) -> dict[str, Tensor]:
    """Return tokens of unit scale, router weights of a softmax, banks that preserve the scale, and output gradients."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=generator, device=device)).to(problem.torch_dtype)

    tokens, dim, hidden, experts = problem.tokens, problem.dim, problem.hidden_dim, problem.num_experts
    return {
        "x": draw(tokens, dim),
        "router_weights": draw(tokens, problem.num_private + problem.num_shared).softmax(-1),
        "w1": draw(experts, hidden, dim, scale=dim**-0.5),
        "b1": draw(experts, hidden),
        "w2": draw(experts, hidden, dim, scale=hidden**-0.5),
        "b2": draw(experts, dim),
        "grad_private": draw(tokens, dim),
        "grad_shared": draw(tokens, dim),
    }


def problems() -> Iterator[Problem]:
    """Yield every problem once, most informative first."""
    yield from dict.fromkeys(_ordered())


def dry_problems() -> Iterator[Problem]:
    """Yield tiny sizes that only show that everything runs; Triton's interpreter has no bfloat16."""
    for tokens, dim in ((64, 16), (33, 32), (7, 16)):
        yield Problem.of(tokens, dim, dtype="float32")
    yield Problem.of(32, 16, num_private=2, num_shared=6, dtype="float32")


def _ordered() -> Iterator[Problem]:
    base = Problem.of(32768, 128)
    yield base
    yield Problem.of(768, 128)
    for dim in (256, 512, 1024):
        yield Problem.of(32768, dim)
    yield Problem.of(262144, 128)
    yield Problem.of(64, 128)
    yield Problem.of(4096, 128)
    yield replace(base, dtype="float16")
    yield replace(base, num_private=1, num_shared=1)
    yield replace(base, num_private=2, num_shared=6)
    for tokens in (768, 4096, 262144, 64, 256):
        for dim in (256, 64, 512, 128, 1024):
            yield Problem.of(tokens, dim)
    yield Problem.of(32768, 64)
    yield replace(base, dtype="float32")
    yield replace(base, num_private=4, num_shared=12)
    yield replace(base, hidden_dim=512)
    yield replace(base, num_groups=12)


def compiles(problem: Problem) -> bool:
    """Return whether to spend time on compiling at this size; every static shape is recompiled."""
    return problem.dim <= 128 or problem.tokens >= 32768 or problem.tokens == 768
