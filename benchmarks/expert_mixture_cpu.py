"""Time the expert mixture on a CPU against a loop over expert modules: ``python benchmarks/expert_mixture_cpu.py``.

There are three groups with one private expert each and three shared experts, in float32. In one process, the providers
take turns, in reverse order every other round. A ratio is the loop's time over the provider's in the same round. On a
busy machine, read the ratios of CPU time, measured with one thread (``OMP_NUM_THREADS=1``).

The op's share of what its matmuls allow: another provider takes turns too and runs the matmuls and GELU alone, and for
the backward pass their gradients, into buffers that it keeps. The share is its CPU time over eager's.
"""

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from modx.ops import composed, expert_mixture
from modx.ops.mixture import Mixture
from record import cpu, summary
from training_step import RESULTS

NUM_GROUPS, NUM_PRIVATE, NUM_SHARED = 3, 1, 3
NUM_EXPERTS = NUM_GROUPS * NUM_PRIVATE + NUM_SHARED
COUNTS = {"num_private": NUM_PRIVATE, "num_shared": NUM_SHARED}
SIZES = (  # tokens, width, hidden width
    *((tokens, 128, 256) for tokens in (64, 256, 768, 2048, 8192)),
    *((tokens, 128, 128) for tokens in (64, 768, 8192)),
    *((tokens, 128, 512) for tokens in (64, 768, 8192)),
    (256, 64, 64),
    (2048, 512, 512),
)
PROVIDERS = ("loop", "eager", "wide", "baddbmm")
COMPILED = ("compiled loop", "compiled wide")
CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}

Outputs = tuple[Tensor, Tensor]


class Bare:
    """The matmuls of a mixture, GELU and its derivative, without biases, router weights, sums or allocation."""

    def __init__(self, x: Tensor, w1: Tensor, w2: Tensor, sizes: list[int]) -> None:
        widths = [NUM_PRIVATE * w1.shape[1]] * NUM_GROUPS + [NUM_SHARED * w1.shape[1]]
        first, second = (bank.detach().flatten(0, 1).split(widths) for bank in (w1, w2))
        tokens = [*x.detach().split(sizes), x.detach()]
        self.banks = [Bank(*parts) for parts in zip(tokens, first, second, strict=True)]

    @torch.no_grad()
    def __call__(self, backward: bool) -> None:
        for bank in self.banks:
            bank.forward()
        for bank in self.banks if backward else ():
            bank.backward()


class Bank:
    """The experts of one group, or the shared ones, as one MLP; its outputs stand for their own gradient."""

    def __init__(self, x: Tensor, w1: Tensor, w2: Tensor) -> None:
        self.x, self.w1, self.w2 = x, w1, w2
        self.z, self.a, self.dz = (torch.empty(len(x), len(w1)) for _ in range(3))
        self.y, self.dx = torch.empty(len(x), w2.shape[1]), torch.empty_like(x)
        self.dw1, self.dw2 = torch.empty_like(w1), torch.empty_like(w2)

    def forward(self) -> None:
        torch.mm(self.x, self.w1.t(), out=self.z)
        torch.ops.aten.gelu.out(self.z, out=self.a)
        torch.mm(self.a, self.w2, out=self.y)

    def backward(self) -> None:
        torch.mm(self.a.t(), self.y, out=self.dw2)
        torch.mm(self.y, self.w2.t(), out=self.dz)
        torch.ops.aten.gelu_backward.grad_input(self.dz, self.z, grad_input=self.dz)
        torch.mm(self.dz.t(), self.x, out=self.dw1)
        torch.mm(self.dz, self.w1, out=self.dx)


@dataclass
class Call:
    """One provider at one size; a call runs the forward pass and optionally the backward pass."""

    forward: Callable[[], Outputs]
    leaves: list[Tensor]
    grads: Outputs

    def __call__(self, backward: bool) -> None:
        if backward:
            self.gradients()
        else:
            with torch.no_grad():
                self.forward()

    def gradients(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.forward(), self.leaves, self.grads)


def make_calls(tokens: int, dim: int, hidden_dim: int, providers: tuple[str, ...] = PROVIDERS) -> dict[str, Call]:
    """Return the providers with the same inputs, after asserting that outputs and gradients match the loop's."""
    torch.manual_seed(0)
    x = torch.randn(tokens, dim, requires_grad=True)
    router_weights = torch.rand(tokens, NUM_PRIVATE + NUM_SHARED, requires_grad=True)
    experts = nn.ModuleList(
        nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim)) for _ in range(NUM_EXPERTS)
    )
    banks = [torch.stack(parts).detach() for parts in zip(*(_bank(expert) for expert in experts), strict=True)]
    inputs = [x, router_weights, *(bank.requires_grad_() for bank in banks)]
    sizes = group_sizes(tokens)

    def loop() -> Outputs:
        return run_loop(experts, x, router_weights, sizes)

    def run_wide() -> Outputs:
        return composed.expert_mixture(Mixture(*inputs, sizes, NUM_PRIVATE, NUM_SHARED, "gelu"))

    forwards: dict[str, Callable[[], Outputs]] = {
        "loop": loop,
        "eager": lambda: expert_mixture(*inputs, group_sizes=sizes, implementation="eager", **COUNTS),
        "wide": run_wide,
        "baddbmm": lambda: run_baddbmm(*inputs, sizes),
    }
    if "compiled loop" in providers:
        torch._dynamo.reset()
        forwards["compiled loop"] = torch.compile(loop)
    if "compiled wide" in providers:
        forwards["compiled wide"] = torch.compile(run_wide)
    grads = torch.randn(tokens, dim), torch.randn(tokens, dim)
    modules = [x, router_weights, *experts.parameters()]
    calls = {
        name: Call(forwards[name], modules if name.endswith("loop") else inputs, grads)
        for name in dict.fromkeys(("loop", *providers))
    }
    for name, call in calls.items():
        for got, expected in zip(call.forward(), loop(), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, msg=name)
        for got, expected in zip(_stacked(call.gradients()), _stacked(calls["loop"].gradients()), strict=True):
            assert (got - expected).norm() <= 1e-4 * expected.norm(), name
    return calls


def group_sizes(tokens: int) -> list[int]:
    sizes = [tokens // NUM_GROUPS] * (NUM_GROUPS - 1)
    return [*sizes, tokens - sum(sizes)]


def run_loop(experts: nn.ModuleList, x: Tensor, router_weights: Tensor, sizes: list[int]) -> Outputs:
    private = []
    for group, (part, weights) in enumerate(zip(x.split(sizes), router_weights.split(sizes), strict=True)):
        own = range(group * NUM_PRIVATE, (group + 1) * NUM_PRIVATE)
        private.append(reduce(add, (weights[:, k, None] * experts[e](part) for k, e in enumerate(own))))
    first = NUM_GROUPS * NUM_PRIVATE
    shared = reduce(add, (router_weights[:, NUM_PRIVATE + k, None] * experts[first + k](x) for k in range(NUM_SHARED)))
    return torch.cat(private), shared


def run_baddbmm(
    x: Tensor, router_weights: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, sizes: list[int]
) -> Outputs:
    def mix(tokens: Tensor, weights: Tensor, experts: slice) -> Tensor:
        batch = tokens.expand(weights.shape[1], *tokens.shape)
        hidden = nn.functional.gelu(torch.baddbmm(b1[experts, None], batch, w1[experts].mT))
        return (torch.baddbmm(b2[experts, None], hidden, w2[experts]) * weights.t()[:, :, None]).sum(0)

    private = [
        mix(part, weights[:, :NUM_PRIVATE], slice(group * NUM_PRIVATE, (group + 1) * NUM_PRIVATE))
        for group, (part, weights) in enumerate(zip(x.split(sizes), router_weights.split(sizes), strict=True))
    ]
    return torch.cat(private), mix(x, router_weights[:, NUM_PRIVATE:], slice(NUM_GROUPS * NUM_PRIVATE, None))


def _bank(expert: nn.Module) -> tuple[Tensor, ...]:
    first, _, second = expert.children()
    return first.weight, first.bias, second.weight.t(), second.bias


def _stacked(gradients: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the gradients of modules in the layout of banks."""
    x, router_weights, *rest = gradients
    if len(rest) == 4:
        return list(gradients)
    w1, b1, w2, b2 = (torch.stack(rest[k::4]) for k in range(4))
    return [x, router_weights, w1, b1, w2.mT, b2]


def measure(size: tuple[int, int, int], rounds: int, backward: bool) -> dict[str, Any]:
    """Return the loop's seconds of wall and CPU time, its time over each provider's, and bare's time over eager's."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    calls = make_calls(*size, (*PROVIDERS, *(COMPILED if compiler else ())))
    x, _, w1, _, w2, _ = calls["eager"].leaves
    turns: dict[str, Callable[[bool], None]] = {**calls, "bare": Bare(x, w1, w2, group_sizes(size[0]))}
    seconds: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in CLOCKS} for name in turns}
    for index in range(rounds + 1):
        for name in list(turns)[:: 1 if index % 2 else -1]:
            starts = {clock: read() for clock, read in CLOCKS.items()}
            turns[name](backward)
            if index:  # the first warms up
                for clock, read in CLOCKS.items():
                    seconds[name][clock].append(read() - starts[clock])

    def ratio(over: str, under: str, clock: str) -> dict[str, Any]:
        found = summary([a / b for a, b in zip(seconds[over][clock], seconds[under][clock], strict=True)])
        return {key: found[key] for key in ("median", "quartiles")}

    return {
        "loop_seconds": {clock: statistics.median(values) for clock, values in seconds["loop"].items()},
        "ratios": {name: ratio("loop", name, "wall") for name in calls if name != "loop"},
        "cpu_ratios": {name: ratio("loop", name, "CPU") for name in ("eager", "compiled loop") if name in calls},
        "share": ratio("bare", "eager", "CPU"),
    }


def profile(size: tuple[int, int, int], steps: int = 100) -> str:
    """Profile an eager step, forward and backward, in microseconds per kind of operation."""
    call = make_calls(*size, ("eager",))["eager"]
    for _ in range(steps):
        call(True)
    with torch.profiler.profile() as profiler:
        for _ in range(steps):
            call(True)
    kinds = {
        "products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::addbmm_"),
        "activation": ("aten::gelu", "aten::gelu_backward"),
        "Python": ("BatchedMixture", "BatchedMixtureBackward", "ChunkedMixture", "ChunkedMixtureBackward"),
    }
    spent = {event.key: event.self_cpu_time_total / steps for event in profiler.key_averages()}
    parts = {kind: sum(spent.pop(name, 0.0) for name in names) for kind, names in kinds.items()}
    parts["the rest"] = sum(spent.values())
    return ", ".join(f"{kind} {microseconds:.0f} us" for kind, microseconds in parts.items())


def goal(tokens: int, dim: int, hidden_dim: int) -> float:
    """Return the target ratios of eager, forward and backward."""
    if tokens <= 256:
        return 1.5
    return 1.25 if (tokens, dim, hidden_dim) == (768, 128, 256) else 0.95


def to_markdown(results: dict[str, Any]) -> str:
    names, on_cpu = (list(results["rows"][0][kind]) for kind in ("ratios", "cpu_ratios"))
    lines = [
        "Expert mixture on a CPU in float32: seconds of a loop over modules over seconds of the provider, median "
        "(quartiles); above 1 the provider is faster. Wall time, except where CPU time is named. The share: CPU time "
        "of the matmuls and GELU alone (backward: and their gradients) over eager's.",
        "",
        "| T | D | H | pass | loop, ms | loop, CPU ms | "
        + " | ".join([*names, *(f"{name}, CPU time" for name in on_cpu)])
        + " | share | eager's goal |",
        "|---" * (8 + len(names) + len(on_cpu)) + "|",
    ]

    def spread(ratio: dict[str, Any]) -> str:
        low, high = ratio["quartiles"]
        return f"{ratio['median']:.2f} ({low:.2f} to {high:.2f})"

    for row in results["rows"]:
        verdict = ""
        if row["backward"]:
            wanted = goal(*row["size"])
            verdict = f"{wanted}: {'met' if row['ratios']['eager']['median'] >= wanted else 'missed'}"
        cells = [
            *map(str, row["size"]),
            "forward, backward" if row["backward"] else "forward",
            *(f"{1e3 * row['loop_seconds'][clock]:.2f}" for clock in CLOCKS),
            *(spread(row["ratios"][name]) for name in names),
            *(spread(row["cpu_ratios"][name]) for name in on_cpu),
            spread(row["share"]),
            verdict,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    machine = results["machine"]
    lines += [
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; torch {results['torch']}; "
        f"{results['rounds']} rounds; `{results['command']}`",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="timed calls of each provider")
    parser.add_argument("--profile", type=int, nargs=3, metavar=("T", "D", "H"), help="where a step of eager goes")
    options = parser.parse_args()
    if options.profile is not None:
        print(profile(tuple(options.profile)))
        return
    rows = [
        {"size": size, "backward": backward, **measure(size, options.rounds, backward)}
        for size in SIZES
        for backward in (False, True)
    ]
    results = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "command": " ".join(["python", *sys.argv]),
        "rounds": options.rounds,
        "rows": rows,
    }
    table = to_markdown(results)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "expert_mixture_cpu.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
