"""Alternative ways to compute the op, all with the same parameters.

A provider is built for a problem and its inputs. One that cannot be built or run raises :class:`CannotRun`.
T tokens, D width, H hidden width, E experts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modx.ops import expert_mixture
from problem import NAMES, SMALL, Problem, compiles

Outputs = tuple[Tensor, Tensor]
Inputs = dict[str, Tensor]


class CannotRun(Exception):
    """A provider cannot run here; the message says why."""


@dataclass
class Candidate:
    """A provider that is ready to run; ``function(*leaves)`` returns (private, shared)."""

    function: Callable[..., Outputs]
    leaves: list[Tensor]
    output_gradients: list[Tensor]
    to_banks: Callable[[list[Tensor]], list[Tensor]] = list  # gradients of the leaves to those of the banks

    def forward(self) -> Outputs:
        """Run inference; nothing is kept for a backward pass."""
        with torch.no_grad():
            return self.function(*self.leaves)

    def forward_for_backward(self) -> Outputs:
        return self.function(*self.leaves)

    def backward(self, outputs: Outputs) -> list[Tensor]:
        return list(torch.autograd.grad(outputs, self.leaves, self.output_gradients))

    def step(self) -> list[Tensor]:
        """Run forward and backward."""
        return self.backward(self.forward_for_backward())

    def results(self) -> dict[str, Tensor]:
        """Return outputs and gradients by name; names are the same for every provider."""
        outputs = self.forward_for_backward()
        gradients = self.to_banks(self.backward(outputs))
        named = dict(zip(NAMES, gradients, strict=True))
        return {"private": outputs[0], "shared": outputs[1]} | {f"d{name}": part for name, part in named.items()}


class Graphed(Candidate):
    """Another candidate's forward, and its forward and backward, each captured as a CUDA graph."""

    def __init__(self, candidate: Candidate, capture: Callable[[Callable[[], object]], Callable[[], object]]) -> None:
        super().__init__(candidate.function, candidate.leaves, candidate.output_gradients, candidate.to_banks)
        self.forward = capture(candidate.forward)  # type: ignore[method-assign]
        self.step = capture(candidate.step)  # type: ignore[method-assign]

    def results(self) -> dict[str, Tensor]:
        outputs, gradients = self.forward(), self.to_banks(self.step())
        named = dict(zip(NAMES, gradients, strict=True))
        return {"private": outputs[0], "shared": outputs[1]} | {f"d{name}": part for name, part in named.items()}


def op(problem: Problem, inputs: Inputs, **options: object) -> Candidate:
    """Return the library's op in one of its implementations."""

    def run(*leaves: Tensor) -> Outputs:
        return expert_mixture(*leaves, **problem.counts, **options)

    return _on_banks(run, inputs)


def loop(problem: Problem, inputs: Inputs) -> Candidate:
    """Call one module per expert in a loop, the straightforward implementation."""
    experts = nn.ModuleList(_module(*parts) for parts in zip(*(inputs[name] for name in NAMES[2:]), strict=True))
    parameters = list(experts.parameters())
    x, router_weights = (inputs[name].detach().requires_grad_() for name in NAMES[:2])
    own, private, shared = problem.num_groups * problem.num_private, problem.num_private, problem.num_shared

    def run(x: Tensor, router_weights: Tensor, *_: Tensor) -> Outputs:
        parts = []
        split = zip(x.split(problem.group_sizes), router_weights.split(problem.group_sizes), strict=True)
        for group, (tokens, weights) in enumerate(split):
            mine = experts[group * private : (group + 1) * private]
            parts.append(reduce(add, (weights[:, k, None] * expert(tokens) for k, expert in enumerate(mine))))
        common = [router_weights[:, private + k, None] * expert(x) for k, expert in enumerate(experts[own:])]
        assert len(common) == shared
        return torch.cat(parts), reduce(add, common)

    def to_banks(gradients: list[Tensor]) -> list[Tensor]:
        w1, b1, w2, b2 = (torch.stack(gradients[2 + part :: 4]) for part in range(4))
        return [*gradients[:2], w1, b1, w2.mT, b2]

    return Candidate(run, [x, router_weights, *parameters], _output_gradients(inputs), to_banks)


def grouped(problem: Problem, inputs: Inputs) -> Candidate:
    """Use PyTorch's grouped matmul with every expert selected: groups padded to one length, 3-D by 3-D."""
    if not hasattr(F, "grouped_mm"):
        raise CannotRun(f"torch {torch.__version__} has no torch.nn.functional.grouped_mm")
    if problem.dtype != "bfloat16":
        raise CannotRun("grouped_mm takes bfloat16 alone")
    own, longest = problem.num_groups * problem.num_private, max(problem.group_sizes)

    def mix(x: Tensor, router_weights: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        """Map x (E, T, D) and router_weights (E, T) to the experts' weighted outputs (E, T, D)."""
        hidden = F.gelu(F.grouped_mm(x, w1.mT) + b1[:, None])
        return router_weights[..., None] * (F.grouped_mm(hidden, w2) + b2[:, None])

    def pad(rows: Tensor) -> Tensor:
        parts = rows.split(problem.group_sizes)
        return torch.stack([F.pad(part, (0, 0, 0, longest - len(part))) for part in parts])

    def run(x: Tensor, router_weights: Tensor, *banks: Tensor) -> Outputs:
        tokens = pad(x).repeat_interleave(problem.num_private, 0)
        weights = pad(router_weights[:, : problem.num_private]).mT.flatten(0, 1)
        private = mix(tokens, weights, *(bank[:own] for bank in banks))
        summed = private.unflatten(0, (problem.num_groups, problem.num_private)).sum(1)
        cut = torch.cat([part[:size] for part, size in zip(summed, problem.group_sizes, strict=True)])
        everywhere = x.expand(problem.num_shared, -1, -1)
        shared = mix(everywhere, router_weights[:, problem.num_private :].T, *(bank[own:] for bank in banks)).sum(0)
        return cut, shared

    return _on_banks(run, inputs)


def compiled(build: Callable[[Problem, Inputs], Candidate], problem: Problem, inputs: Inputs) -> Candidate:
    """Compile another provider with torch.compile, for this size only."""
    if not compiles(problem):
        raise CannotRun("not compiled at this size, to save time")
    candidate = build(problem, inputs)
    candidate.function = torch.compile(candidate.function, dynamic=False)
    return candidate


def make_providers(
    implementation: str, capture: Callable[[Callable[[], object]], Callable[[], object]] | None
) -> dict[str, Callable[[Problem, Inputs], Candidate]]:
    """Return every provider by name, first "wide", the reference for correctness.

    Args:
        implementation: implementation of "modx": "triton", or another without a GPU.
        capture: captures a call as a CUDA graph; None without CUDA graphs.
    """

    def graphed_loop(problem: Problem, inputs: Inputs) -> Candidate:
        if capture is None:
            raise CannotRun("CUDA graphs need a CUDA device")
        if problem.tokens > SMALL:
            raise CannotRun(f"captured up to {SMALL} tokens alone")
        return Graphed(loop(problem, inputs), capture)

    wide = partial(op, implementation="eager")
    return {
        "wide": wide,
        "modx": partial(op, implementation=implementation),
        "modx, least memory": partial(op, implementation=implementation, least_memory=True),
        "loop": loop,
        "graphed loop": graphed_loop,
        "grouped": grouped,
        "compiled wide": partial(compiled, wide),
        "compiled loop": partial(compiled, loop),
    }


def _on_banks(function: Callable[..., Outputs], inputs: Inputs) -> Candidate:
    leaves = [inputs[name].detach().requires_grad_() for name in NAMES]
    return Candidate(function, leaves, _output_gradients(inputs))


def _output_gradients(inputs: Inputs) -> list[Tensor]:
    return [inputs["grad_private"], inputs["grad_shared"]]


def _module(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> nn.Sequential:
    module = nn.Sequential(nn.Linear(*w1.T.shape), nn.GELU(), nn.Linear(*w2.shape)).to(w1)
    values: Sequence[Tensor] = (w1, b1, w2.T, b2)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(value)
    return module
