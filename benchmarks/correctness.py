"""Check a provider's outputs and gradients against float64; the wide matmuls' own error sets the tolerance."""

import torch
from torch import Tensor

from modx.ops import expert_mixture
from problem import NAMES, Problem

FACTOR = 1.5  # how much worse than the wide products the library may be
BASELINE_FACTOR = 3.0  # and a baseline: one that rounds after every expert is not wrong
CHUNK = 8192  # tokens that float64 holds the hidden layers of at once


def exact(problem: Problem, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute outputs and gradients in float64 by the op's specification, a few tokens of one group at a time."""
    x, router_weights, *banks = (inputs[name].double() for name in NAMES)
    banks = [bank.requires_grad_() for bank in banks]
    out_gradients = [inputs[name].double() for name in ("grad_private", "grad_shared")]
    found: dict[str, list[Tensor]] = {name: [] for name in ("private", "shared", "dx", "drouter_weights")}
    start = 0
    for group, size in enumerate(problem.group_sizes):
        for tokens in torch.arange(start, start + size).split(CHUNK):
            rows = slice(int(tokens[0]), int(tokens[-1]) + 1)
            sizes = [len(tokens) if other == group else 0 for other in range(problem.num_groups)]
            leaves = [part[rows].detach().requires_grad_() for part in (x, router_weights)]
            counts = problem.counts | {"group_sizes": sizes}
            outputs = expert_mixture(*leaves, *banks, **counts, implementation="reference")
            torch.autograd.backward(outputs, [part[rows] for part in out_gradients])
            parts = (*outputs, *(leaf.grad for leaf in leaves))
            for name, part in zip(found, parts, strict=True):
                found[name].append(part.detach())
        start += size
    gradients = {f"d{name}": bank.grad for name, bank in zip(NAMES[2:], banks, strict=True)}
    return {name: torch.cat(parts) for name, parts in found.items()} | gradients


def errors(results: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return the relative Frobenius error of every output and gradient; NaN and infinity are kept."""
    assert results.keys() == expected.keys()
    found = {}
    for name, want in expected.items():
        got = results[name]
        assert got.shape == want.shape, f"{name}: {tuple(got.shape)} for {tuple(want.shape)}"
        found[name] = ((got.double() - want).norm() / want.norm().clamp_min(torch.finfo(torch.float64).tiny)).item()
    return found


def limits(yardstick: dict[str, float], dtype: torch.dtype, factor: float = FACTOR) -> dict[str, float]:
    """Return the maximum error allowed, given that of the wide matmuls in the same dtype."""
    tiny = torch.finfo(dtype).eps / 16
    return {name: factor * error + tiny for name, error in yardstick.items()}


def complaints(found: dict[str, float], allowed: dict[str, float]) -> list[str]:
    """Describe errors above their limit; NaN is above every limit."""
    return [f"{name} {error:.2e} > {allowed[name]:.2e}" for name, error in found.items() if not error <= allowed[name]]
