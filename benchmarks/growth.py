"""Measure how cost grows with tokens, experts, frames and modalities: ``python benchmarks/growth.py --folder FOLDER``.

Time and memory of a step (forward and backward) are measured for the op and for DERL without its text encoder, varying
one size at a time. cost = a n^p is fitted by least squares in logarithms over the whole range. p is printed with its
standard error and beside the slope between the last two sizes, because fixed costs flatten the start. The goal is p = 1
or less.

Memory is, on a GPU, the peak above the level before; on a CPU, the bytes that autograd saves for the backward pass.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modx.ops import expert_mixture
from problem import NAMES, Problem, make_inputs
from record import provenance, summary, write
from stopwatch import CudaStopwatch, HostStopwatch, Stopwatch

ROUNDS = 7
BATCH, FRAMES, WIDTH = 16, 64, 32  # of the model, where they do not grow
Step = Callable[[], object]


@dataclass(frozen=True)
class Axis:
    """A quantity to vary, its sizes, and a function that makes the forward pass of a step at a size."""

    subject: str
    name: str
    sizes: tuple[int, ...]
    make: Callable[[int, torch.device], Callable[[], torch.Tensor]]


def axes(scale: int) -> Iterator[Axis]:
    """Return all quantities to vary.

    Args:
        scale: factor on the number of tokens, larger for devices that need more work than a CPU.
    """
    tokens = 512 * scale
    yield Axis("op", "tokens", tuple(tokens * 2**i for i in range(6)), lambda n, to: _op(Problem.of(n, 128), to))
    yield Axis(
        "op",
        "experts a token visits",
        (2, 4, 8, 16, 32),
        lambda n, to: _op(Problem.of(2 * tokens, 128, num_shared=n - 1), to),
    )
    batch = BATCH * scale
    yield Axis("model", "samples", tuple(batch * 2**i for i in range(5)), lambda n, to: _model(to, batch_size=n))
    yield Axis(
        "model", "frames", tuple(FRAMES * 2**i for i in range(5)), lambda n, to: _model(to, batch_size=batch, frames=n)
    )
    yield Axis(
        "model",
        "shared experts",
        (2, 4, 8, 16, 32),
        lambda n, to: _model(to, batch_size=4 * batch, frames=8, num_shared_experts=n),
    )
    yield Axis("model", "modalities", (2, 4, 8, 16), lambda n, to: _model(to, batch_size=batch, modalities=n))


def dry_axes() -> Iterator[Axis]:
    for axis in axes(1):
        small = (8, 16, 32) if axis.name in ("tokens", "frames") else (2, 4)
        yield Axis(axis.subject, axis.name, small, axis.make)


def fit(sizes: list[int], costs: list[float]) -> dict[str, float | None]:
    """Fit cost = a size^p by least squares in logarithms; return p, its standard error, and the last local slope."""
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    residual = sum((b - mean_y - exponent * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    error = math.sqrt(residual / (len(x) - 2) / spread) if len(x) > 2 else None
    return {"exponent": exponent, "standard_error": error, "last_slope": (y[-1] - y[-2]) / (x[-1] - x[-2])}


def grow(axis: Axis, stopwatch: Stopwatch, rounds: int, deadline: float) -> dict[str, Any]:
    """Measure time and memory at every size that the deadline allows, and fit them."""
    report: dict[str, Any] = {"subject": axis.subject, "axis": axis.name, "sizes": [], "seconds": [], "bytes": []}
    for size in axis.sizes:
        if time.monotonic() > deadline:
            report["reason"] = f"no time left from size {size} on"
            break
        try:
            seconds, memory = _cost(axis.make(size, stopwatch.device), stopwatch, rounds)
        except Exception as error:
            words = str(error).splitlines() or [""]
            report["reason"] = f"size {size}: {type(error).__name__}: {words[0][:200]}"
            break
        report["sizes"].append(size)
        report["seconds"].append(summary(seconds))
        report["bytes"].append(memory)
        stopwatch.release()
    if len(report["sizes"]) > 1:
        report["time_fit"] = fit(report["sizes"], [each["median"] for each in report["seconds"]])
        report["memory_fit"] = fit(report["sizes"], report["bytes"])
    return report


def to_markdown(results: dict[str, Any]) -> str:
    rows = []
    for part in results["growth"]:
        if "time_fit" not in part:
            rows.append(f"| {part['subject']} | {part['axis']} | not run: {part['reason']} | | | | |")
            continue
        sizes = f"{part['sizes'][0]} to {part['sizes'][-1]}"
        fits = [cell for kind in ("time_fit", "memory_fit") for cell in _cells(part[kind])]
        rows.append(f"| {part['subject']} | {part['axis']} | {sizes} | {' | '.join(fits)} |")
    machine = results["machine"]
    return "\n".join(
        [
            "Exponent p of cost = a nᵖ for one step, forward and backward, ± its standard error; 1 is proportional,",
            "below 1 a fixed cost shows. The last slope is that of the two largest sizes.",
            "",
            "| | what grows | sizes | time, p | last slope | memory, p | last slope |",
            "|---|---|---|---:|---:|---:|---:|",
            *rows,
            "",
            f"{machine['gpu'] or machine['cpu']}, {results['dtype']}; memory: {results['memory']}; "
            f"torch {results['torch']}; `{results['command']}`",
            "",
        ]
    )


def _cells(fitted: dict[str, float | None]) -> list[str]:
    error = "" if fitted["standard_error"] is None else f" ± {fitted['standard_error']:.2f}"
    return [f"{fitted['exponent']:.2f}{error}", f"{fitted['last_slope']:.2f}"]


def _cost(forward: Callable[[], torch.Tensor], stopwatch: Stopwatch, rounds: int) -> tuple[list[float], int]:
    def step() -> None:
        forward().backward()

    for _ in range(2):  # after these the gradients exist
        step()
    seconds = [stopwatch.seconds(step) for _ in range(rounds)]
    peak = stopwatch.peak_bytes(step)
    return seconds, _saved_bytes(forward) if peak is None else peak


def _saved_bytes(forward: Callable[[], torch.Tensor]) -> int:
    """Return the bytes of storage that autograd saves in a forward pass, leaves excluded."""
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(part: torch.Tensor) -> torch.Tensor:
        if not (part.is_leaf and part.requires_grad):
            kept[part.untyped_storage().data_ptr()] = part.untyped_storage()
        return part

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda part: part):
        loss = forward()
    total = sum(storage.nbytes() for storage in kept.values())
    del loss
    return total


def _dtype(device: torch.device) -> str:
    return "bfloat16" if device.type == "cuda" else "float32"


def _op(problem: Problem, device: torch.device) -> Callable[[], torch.Tensor]:
    inputs = make_inputs(Problem(**problem.as_dict() | {"dtype": _dtype(device)}), device)
    leaves = [inputs[name].requires_grad_() for name in NAMES]

    def forward() -> torch.Tensor:
        private, shared = expert_mixture(*leaves, **problem.counts)
        return (private * inputs["grad_private"]).sum() + (shared * inputs["grad_shared"]).sum()

    return forward


def _model(
    device: torch.device, *, batch_size: int, frames: int = FRAMES, modalities: int = 3, **sizes: int
) -> Callable[[], torch.Tensor]:
    """Return DERL on states and features of one width; half of the samples drop frames."""
    from training_step import BertConfig, DerlConfig, StatesModel, make_batch  # they need the examples' packages

    names = ["text", *(f"sensor{index}" for index in range(1, modalities))]
    config = DerlConfig(
        modalities=names,
        input_dims=dict.fromkeys(names[1:], WIDTH),
        max_lengths=dict.fromkeys(names, frames),
        text_config=BertConfig(
            vocab_size=1, num_hidden_layers=0, hidden_size=WIDTH, num_attention_heads=1, pad_token_id=0
        ),
        **sizes,
    )
    model, batch = StatesModel(config).train().to(device), make_batch(batch_size, config)
    moved = {
        key: {name: part.to(device) for name, part in value.items()} if isinstance(value, dict) else value.to(device)
        for key, value in batch.items()
    }

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return model(**moved).loss

    return forward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where growth.json and growth.md go")
    parser.add_argument("--budget", type=float, default=600, help="seconds")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes on a CPU: figures mean nothing")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available() and not options.dry_run
    stopwatch: Stopwatch = CudaStopwatch() if on_gpu else HostStopwatch()
    results: dict[str, Any] = {
        "dry_run": options.dry_run,
        "note": "dry run: figures mean nothing" if options.dry_run else f"{ROUNDS} rounds",
        **provenance(stopwatch.describe()),
        "dtype": _dtype(stopwatch.device),
        "memory": "peak above what was there before" if on_gpu else "bytes kept for the backward pass",
        "growth": [],
    }
    deadline = time.monotonic() + options.budget
    for axis in dry_axes() if options.dry_run else axes(16 if on_gpu else 1):
        report = grow(axis, stopwatch, 3 if options.dry_run else ROUNDS, deadline)
        results["growth"].append(report)
        write(options.folder / "growth.json", results)
        cells = _cells(report["time_fit"]) + _cells(report["memory_fit"]) if "time_fit" in report else []
        print(f"{axis.subject}, {axis.name}: {', '.join(cells)} {report.get('reason', '')}", flush=True)
    if options.dry_run:
        print("dry run: figures mean nothing, no table is written")
    else:
        (options.folder / "growth.md").write_text(to_markdown(results))


if __name__ == "__main__":
    main()
