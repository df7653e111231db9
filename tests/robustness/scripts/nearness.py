"""How near a result in a narrow dtype must be to float64: about as near as that dtype can place it.

The same computation runs in float64 with every intermediate result moved at random by a few spacings of the narrow
dtype (Monte Carlo arithmetic; Parker, 1997). How far the results move is the condition measure: small for a plain sum,
large where large numbers cancel, a row of nearly equal numbers is normalized, or two experts tie.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

RUNS = 3  # in float64 with moved intermediate results
STEP = 2.0  # spacings by which each is moved, at most; rounding itself moves by half of one
# An error may be so many times the largest move plus one spacing of the largest element: the largest of three random
# moves is itself a matter of chance. The largest error seen in these tests is 2.3 times.
BOUND = 4.0
# Where the moves reach this share of a result, the dtype does not resolve it (a row of equal large numbers, say): it is
# held to be finite and no more.
UNRESOLVED = 0.5

Run = Callable[[nn.Module, Tensor], list[Tensor]]


def assert_near_float64(module: nn.Module, x: Tensor, run: Run) -> float:
    """Hold the outputs and the gradients of x and of all parameters against the same module in float64.

    Returns:
        The largest error, in units of the move and the spacing above.
    """
    exact = copy.deepcopy(module).double()
    found = _results(module, x, run)
    expected = _results(exact, x.double(), run)
    moves = [expected]
    for seed in range(RUNS if x.dtype != torch.float64 else 0):  # float64 beside itself is not to move at all
        with Moved(x.dtype, seed):
            moves.append(_results(exact, x.double(), run))
    return max(_compare(name, found[name], expected[name], [run[name] for run in moves]) for name in expected)


class Moved(TorchDispatchMode):
    """Move whatever an operation computes in float64 by a few spacings of another dtype."""

    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        info = torch.finfo(dtype)
        self.relative, self.absolute = STEP * info.eps, STEP * info.eps * info.smallest_normal
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        aliases = [value.alias_info for value in func._schema.returns if value.alias_info is not None]
        if any(not alias.is_write for alias in aliases):  # a view: the numbers are old ones
            return result
        return tree_map_only(Tensor, lambda part: self._move(part, in_place=bool(aliases)), result)

    def _move(self, part: Tensor, in_place: bool) -> Tensor:
        if part.dtype != torch.float64:
            return part
        noise = 2 * torch.rand(part.shape, generator=self.generator, dtype=part.dtype) - 1
        moved = part + noise * (self.relative * part.abs() + self.absolute)
        moved = torch.where(part.abs() < 1e300, moved, part)  # what stands for infinity stays
        return part.copy_(moved) if in_place else moved


def _results(module: nn.Module, x: Tensor, run: Run) -> dict[str, Tensor]:
    leaf = x.detach().requires_grad_()
    outputs = run(module, leaf)
    results = {f"output {index}": part.detach() for index, part in enumerate(outputs)}
    pairs = [(part, _direction(part)) for part in outputs if part.requires_grad]
    if pairs:
        leaves = {"x": leaf} | dict(module.named_parameters())
        gradients = torch.autograd.grad(
            [part for part, _ in pairs], list(leaves.values()), [direction for _, direction in pairs], allow_unused=True
        )
        results |= {
            f"gradient of {name}": part for name, part in zip(leaves, gradients, strict=True) if part is not None
        }
    return results


def _direction(output: Tensor) -> Tensor:
    """An incoming gradient, the same in every dtype."""
    generator = torch.Generator().manual_seed(output.numel())
    return (torch.randn(output.shape, generator=generator).half() / 16).to(output.dtype)


def _compare(name: str, got: Tensor, expected: Tensor, moved: list[Tensor]) -> float:
    assert got.shape == expected.shape
    if not expected.numel():
        return 0.0
    info = torch.finfo(got.dtype)
    largest = expected.abs().max()
    assert largest.isfinite(), f"{name} is not finite in float64"
    if largest > info.max / 2:  # the dtype ends before it
        return 0.0
    assert got.isfinite().all(), f"{name} is not finite in {got.dtype}; in float64 at most {largest:.3g}"
    move = torch.stack([part - expected for part in moved]).abs().max()
    if 0 < UNRESOLVED * largest < move:
        return 0.0
    unit = move + info.eps * largest + info.eps * info.smallest_normal
    error = (got.double() - expected).abs().max()
    assert error <= BOUND * unit, f"{name}: {error:.3g} off, {BOUND * unit:.3g} allowed; at most {largest:.3g}"
    return (error / unit).item()
