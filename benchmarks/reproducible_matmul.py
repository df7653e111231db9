"""Measure the cost of MKL's reproducible modes: ``python benchmarks/reproducible_matmul.py``.

By default, MKL's summation order can depend on the memory alignment of a matmul's operands. ``MKL_CBWR`` prevents that.
Each setting has its own process, since MKL reads the variable only once. The processes take turns, one step per round:
the training step of ``training_step.py`` (no text encoder), and a step of the default run of ``examples/derl_mosi.py``
(synthetic data, text encoder trained from scratch). Ratios are between the two steps of a round, with and without the
variable. The second column counts matmuls whose bits change when one operand moves.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from record import cpu, summary
from training_step import RESULTS, TrainingStep, make_batch

SETTINGS = ("unset", "AUTO,STRICT", "AVX2,STRICT", "COMPATIBLE")
OFFSETS = (4, 8, 16, 32)  # bytes
SHAPES = [(rows, *widths) for rows in (1, 4, 64) for widths in ((128, 1), (128, 7), (256, 6), (768, 256), (128, 128))]
Step = Callable[[], Any]


def at_offset(x: Tensor, offset: int) -> Tensor:
    """Copy a float32 tensor to a place ``offset`` bytes after a multiple of 64."""
    memory = x.new_empty(x.numel() + 32)
    start = (offset - memory.data_ptr()) % 64 // x.element_size()
    copy = memory[start : start + x.numel()].view(x.shape)
    return copy.copy_(x)


def count_moved() -> tuple[int, int]:
    """Count matmuls of ``SHAPES`` whose bits depend on an operand's address; return that count and the total."""
    generator = torch.Generator().manual_seed(0)
    moved = []
    for rows, width, columns in SHAPES:
        x, w = torch.randn(rows, width, generator=generator), torch.randn(columns, width, generator=generator)
        expected = F.linear(at_offset(x, 0), at_offset(w, 0))
        places = [place for offset in OFFSETS for place in ((offset, 0), (0, offset))]
        moved.append(any(not torch.equal(F.linear(at_offset(x, a), at_offset(w, b)), expected) for a, b in places))
    return sum(moved), len(moved)


def training_step() -> Step:
    step, batch = TrainingStep("modx"), make_batch()
    return lambda: step(batch)


def default_step() -> Step:
    """Return a step of the default run, on its first batch."""
    from derl.train.options import parse
    from derl.train.run import RunFolder
    from derl.train.setup import Setup
    from derl.train.trainer import make_optimizer

    options = parse([])
    setup = Setup.build(options, RunFolder(Path()))
    data = setup.dataset("train")
    batch = setup.collator([data[index] for index in range(options.batch_size)])
    model = setup.model.train()
    optimizer = make_optimizer(model, options)

    def step() -> None:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    return step


STEPS: dict[str, Callable[[], Step]] = {"training step": training_step, "default run's step": default_step}


def work() -> None:
    """For every line on standard input, run a step and print its wall and CPU seconds."""
    steps = {name: make() for name, make in STEPS.items()}
    for step in steps.values():
        step()
    print(json.dumps(count_moved()), flush=True)
    for line in sys.stdin:
        wall, used = time.perf_counter(), time.process_time()
        steps[line.strip()]()
        print(json.dumps([time.perf_counter() - wall, time.process_time() - used]), flush=True)


def measure(rounds: int) -> dict[str, Any]:
    """Return wall and CPU seconds of each setting's steps, round by round."""
    workers: dict[str, subprocess.Popen[str]] = {}
    for setting in SETTINGS:
        environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
        environment |= {} if setting == "unset" else {"MKL_CBWR": setting}
        command = [sys.executable, __file__, "--worker"]
        workers[setting] = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answer(setting: str) -> Any:
        return json.loads(workers[setting].stdout.readline())  # type: ignore[union-attr]

    moved = {setting: answer(setting) for setting in SETTINGS}
    times: dict[str, dict[str, list[list[float]]]] = {name: {setting: [] for setting in SETTINGS} for name in STEPS}
    for index in range(rounds):
        for name in STEPS:
            for setting in SETTINGS if index % 2 else reversed(SETTINGS):
                print(name, file=workers[setting].stdin, flush=True)
                times[name][setting].append(answer(setting))
    for worker in workers.values():
        worker.stdin.close()  # type: ignore[union-attr]
        worker.wait()
    return {"moved": moved, "times": times}


def to_markdown(found: dict[str, Any], machine: str) -> str:
    """Format one row per setting: wall seconds, and wall and CPU time relative to those without the variable."""
    columns = " | ".join(f"{name}, s | / unset | CPU" for name in STEPS)
    lines = [
        "What MKL's reproducible modes cost: medians and quartiles; ratios are of the two steps of a round.",
        "",
        f"| `MKL_CBWR` | matmuls that depend on addresses | {columns} |",
        "|---|---:|" + "---:|---:|---:|" * len(STEPS),
    ]
    for setting in SETTINGS:
        cells = [setting, "{} of {}".format(*found["moved"][setting])]
        for name in STEPS:
            own, unset = found["times"][name][setting], found["times"][name]["unset"]
            ratios = [[a[kind] / b[kind] for a, b in zip(own, unset, strict=True)] for kind in (0, 1)]
            cells += [_spread([wall for wall, _ in own]), *map(_spread, ratios)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", machine, ""])


def _spread(values: list[float]) -> str:
    described = summary(values)
    low, high = described["quartiles"]
    return f"{described['median']:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="steps per setting")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    found = measure(options.rounds)
    machine = f"{cpu()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; torch {torch.__version__}; "
    table = to_markdown(found, machine + f"`{' '.join(['python', *sys.argv])}`")
    (RESULTS / "reproducible_matmul.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
