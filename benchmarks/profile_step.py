"""Profile one training step of DERL, block by block: ``python benchmarks/profile_step.py``.

The step is that of ``training_step.py`` on a CPU: the paper's sizes for CMU-MOSI, batch 64, no text encoder. Ranges of
torch.profiler wrap the model's parts from outside. A range's time excludes nested ranges, so the shares (with one for
time outside all ranges) add up to the step. Each share lists the operators that take most of its time. The fastest
profiled step is shown, because other processes disturbed it least. The profiler slows down blocks of many small
operators, so the fastest step without it is shown too.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from record import cpu
from training_step import BATCH_SIZE, Batch, TrainingStep, make_batch

RESULTS = Path(__file__).parent / "results"
STEP = "a training step"
OTHER = "other"
MODULES = {
    "encoder": "encoders",
    "disentangler": "HED",
    "reconstructor": "MLCR",
    "modality_router": "MRF",
    "transformer": "transformer",
}
BLOCKS = (*MODULES.values(), "losses", "backward", "optimizer", OTHER)


@dataclass
class Share:
    """Microseconds of a block in a step, in total and per operator."""

    time: float = 0.0
    operators: Counter[str] = field(default_factory=Counter)


def ranged(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a call in a profiler range of this name."""

    def run(*arguments: Any, **options: Any) -> Any:
        with record_function(name):
            return call(*arguments, **options)

    return run


def mark(model: nn.Module) -> None:
    """Put ranges around the parts of a DerlModel."""
    for attribute, block in MODULES.items():
        part = getattr(model.fusion, attribute)
        part.forward = ranged(block, part.forward)
    # the first runs MLCR, whose range lies within this one
    for owner, method in ((model.fusion, "_losses"), (model, "losses"), (model, "task_loss")):
        setattr(owner, method, ranged("losses", getattr(owner, method)))


def take(step: TrainingStep, batch: Batch) -> None:
    """Do what ``step(batch)`` does, in ranges."""
    with record_function(STEP):
        ranged("optimizer", step.optimizer.zero_grad)()
        loss = step.loss(batch)
        ranged("backward", loss.backward)()
        ranged("optimizer", step.optimizer.step)()


def attribute(step: FunctionEvent) -> dict[str, Share]:
    """Attribute every microsecond of a step to its innermost range."""
    shares = {block: Share() for block in BLOCKS}

    def add(event: FunctionEvent, block: str) -> None:
        block = event.name if event.name in shares else block
        own = event.self_cpu_time_total
        shares[block].time += own
        if event.name not in shares and event.name != STEP:
            shares[block].operators[event.name] += own
        for child in event.cpu_children:
            add(child, block)

    add(step, OTHER)
    return shares


def measure(steps: int, trace: Path | None) -> dict[str, Any]:
    """Return the fastest of several profiled steps, and of as many without the profiler, in turn."""
    load = os.getloadavg()[0]
    step, batch = TrainingStep("modx"), make_batch()
    mark(step.model)
    take(step, batch)
    seconds, fastest = [], None
    for _ in range(steps):
        start = time.perf_counter()
        take(step, batch)
        seconds.append(time.perf_counter() - start)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            take(step, batch)
        profiled = next(event for event in profiler.events() if event.name == STEP)
        if fastest is None or profiled.cpu_time_total < fastest.cpu_time_total:
            fastest = profiled
            if trace is not None:
                profiler.export_chrome_trace(str(trace))
    return {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": load},
        "torch": torch.__version__,
        "steps": steps,
        "seconds": min(seconds),
        "profiled_seconds": fastest.cpu_time_total / 1e6,
        "blocks": {
            block: {
                "seconds": share.time / 1e6,
                "operators": {name: value / 1e6 for name, value in share.operators.most_common(3)},
            }
            for block, share in attribute(fastest).items()
        },
    }


def to_markdown(results: dict[str, Any]) -> str:
    total = results["profiled_seconds"]
    rows = []
    for name, block in results["blocks"].items():
        most = ", ".join(
            f"{operator.removeprefix('aten::')} {100 * seconds / total:.1f}"
            for operator, seconds in block["operators"].items()
        )
        rows.append(f"| {name} | {1e3 * block['seconds']:.1f} | {100 * block['seconds'] / total:.1f} | {most} |")
    machine = results["machine"]
    return "\n".join(
        [
            f"One training step of DERL without the text encoder, CMU-MOSI's sizes, batch {BATCH_SIZE}: the fastest "
            f"of {results['steps']} profiled steps.",
            "",
            "| block | ms | % | operators that take most, % of the step |",
            "|---|---:|---:|---|",
            *rows,
            f"| **step** | {1e3 * total:.1f} | 100.0 | |",
            "",
            "A block's forward pass; `backward` is that of all of them. HED: the experts that disentangle; MLCR: the",
            "reconstruction; MRF: the modality router. `other` is in no range: corruption, the head and such.",
            f"Without the profiler the fastest step took {1e3 * results['seconds']:.1f} ms.",
            "",
            f"{machine['cpu']}, {machine['cores']} cores, threads: {machine['threads']}, no GPU, "
            f"load {machine['load']:.1f} before; torch {results['torch']}; `{results['command']}`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="profiled steps")
    parser.add_argument("--trace", type=Path, help="also write that step's trace for chrome://tracing or Perfetto")
    options = parser.parse_args()
    command = "python benchmarks/profile_step.py" + (f" --steps {options.steps}" if options.steps != 20 else "")
    results = measure(options.steps, options.trace) | {"command": command}
    (RESULTS / "profile_step.md").write_text(to_markdown(results))
    print(to_markdown(results))


if __name__ == "__main__":
    main()
