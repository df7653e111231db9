"""Time one training step of DERL, eager and with ``torch.compile``: ``python benchmarks/compile_step.py``.

Forward, loss, backward and AdamW at the paper's sizes for CMU-MOSI, batch 64, without the text encoder, as in
``training_step.py``. The model is compiled as ``TrainingArguments(torch_compile=True)`` does: ``torch.compile(model)``
with inductor and default settings.

Two kinds of steps are timed: on the same full-length batch with half of the samples corrupted, and on batches whose
lengths and numbers of corrupted samples change per step, as in training. Both providers take the same batches in turn;
ratios are between the two steps of a round. The compile time is the time of the first pass over the batches minus that
of a later pass.
"""

import argparse
import os
import statistics
import sys
import time
from typing import Any

import torch

from record import cpu, summary
from training_step import BATCH_SIZE, Batch, TrainingStep, make_batch

PROVIDERS = ("eager", "compiled")
KINDS = ("same shapes", "shapes that change")


def make_batches(kind: str, count: int = 8) -> list[Batch]:
    """Return the batches of one kind: one batch, or lengths of 70 to 100% and 24 to 40 corrupted samples."""
    whole = make_batch()
    if kind == "same shapes":
        return [whole]
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(count):
        batch: Batch = {"labels": whole["labels"], "inputs": {}, "masks": {}, "keep": {}}
        complete = torch.randperm(BATCH_SIZE, generator=generator)[
            int(torch.randint(24, 41, (), generator=generator)) :
        ]
        for name, frames in whole["inputs"].items():
            length = int(frames.shape[1] * (0.7 + 0.3 * torch.rand((), generator=generator)))
            for part in ("inputs", "masks"):
                batch[part][name] = whole[part][name][:, :length]
            keep = torch.rand(BATCH_SIZE, length, generator=generator) > 0.5
            keep[complete] = True
            batch["keep"][name] = keep
        batches.append(batch)
    return batches


def make_steps(batch: Batch) -> dict[str, TrainingStep]:
    """Return an eager and a compiled step, after asserting that losses and gradients agree."""
    steps = {provider: TrainingStep("modx") for provider in PROVIDERS}
    compiled = steps["compiled"]
    compiled.model = torch.compile(compiled.model)
    losses = {provider: step.loss(batch) for provider, step in steps.items()}
    torch.testing.assert_close(losses["compiled"], losses["eager"], rtol=1e-5, atol=0)
    for loss in losses.values():
        loss.backward()
    gradients = [[parameter.grad for parameter in step.model.parameters()] for step in steps.values()]
    # as in training_step.py: a gradient that is zero but for rounding
    rounding = 1e-7 * torch.stack([gradient.norm() for gradient in gradients[0]]).norm()
    for eager, other in zip(*gradients, strict=True):
        assert (other - eager).norm() <= 1e-4 * eager.norm() + rounding
    return steps


def measure(kind: str, rounds: int) -> dict[str, Any]:
    """Return seconds per step and provider, their ratio, and the compile time."""
    torch._dynamo.reset()
    batches = make_batches(kind)
    start = time.perf_counter()
    steps = make_steps(batches[0])
    for batch in batches:
        steps["compiled"](batch)
    first = time.perf_counter() - start
    for batch in batches:  # the eager one's warm-up
        steps["eager"](batch)
    seconds: dict[str, list[float]] = {provider: [] for provider in PROVIDERS}
    for index in range(rounds):
        for provider in PROVIDERS if index % 2 else reversed(PROVIDERS):
            start = time.perf_counter()
            steps[provider](batches[index % len(batches)])
            seconds[provider].append(time.perf_counter() - start)
    medians = {provider: statistics.median(values) for provider, values in seconds.items()}
    once = medians["eager"] + (len(batches) + 1) * medians["compiled"]
    saved = medians["eager"] - medians["compiled"]
    return {
        "seconds": {provider: summary(values) for provider, values in seconds.items()},
        "speed_up": summary([e / c for e, c in zip(seconds["eager"], seconds["compiled"], strict=True)]),
        "compile_seconds": first - once,
        "steps_to_break_even": (first - once) / saved if saved > 0 else None,
    }


def to_markdown(results: dict[str, Any]) -> str:
    def spread(summary: dict[str, Any]) -> str:
        low, high = summary["quartiles"]
        return f"{summary['median']:.3f} ({low:.3f} to {high:.3f})"

    rows = []
    for kind, result in results["kinds"].items():
        cells = [spread(result["seconds"]["eager"]), spread(result["seconds"]["compiled"]), spread(result["speed_up"])]
        even = result["steps_to_break_even"]
        cells += [f"{result['compile_seconds']:.0f}", "never" if even is None else f"{even:.0f}"]
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    machine = results["machine"]
    return "\n".join(
        [
            f"One training step of DERL without the text encoder, CMU-MOSI's sizes, batch {BATCH_SIZE}, eager and "
            "compiled: seconds, median and quartiles.",
            "",
            "| | eager | compiled | eager / compiled | seconds to compile | steps until that is won back |",
            "|---|---|---|---|---:|---:|",
            *rows,
            "",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; torch {results['torch']}; "
            f"`{results['command']}`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="timed steps of each provider and kind")
    options = parser.parse_args()
    results = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "command": " ".join(["python", *sys.argv]),
        "kinds": {kind: measure(kind, options.rounds) for kind in KINDS},
    }
    print(to_markdown(results))


if __name__ == "__main__":
    main()
