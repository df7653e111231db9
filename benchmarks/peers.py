"""Time one training step of other systems beside DERL: ``python benchmarks/peers.py --checkouts FOLDER``.

Each system's own training loop runs on CMU-MOSI's unaligned sizes, with its text encoder replaced by given states. The
batches that it asks for hold the watch: from one request to the next, its loop takes one step. Between its steps, modx
takes one. Every system has its own process, with one thread; ``peers.md`` says what is measured and how.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from peer_systems import SYSTEMS, Repository, System, to_peer_batch
from record import commit, cpu, summary
from training_step import RESULTS, Batch, TrainingStep, make_batch

CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
Seconds = dict[str, float]


class Finished(Exception):
    """Leaves a system's training loop once every step is timed."""


class TimedBatches:
    """The training data of a system: the same batch again and again, and a watch on what happens in between.

    Args:
        batch: what every step is given.
        system: how many passes and steps are timed.
        rounds: timed steps per pass.
        other: called before each timed step, and timed too.
    """

    def __init__(self, batch: Batch, system: System, rounds: int, other: Callable[[], object]) -> None:
        self.batch, self.system, self.rounds, self.other = batch, system, rounds, other
        self.passes = 0
        self.own: list[list[Seconds]] = []  # pass, round
        self.others: list[list[Seconds]] = []

    def __len__(self) -> int:
        return self.system.untimed_steps + self.rounds

    def __iter__(self) -> Iterator[Batch]:
        self.passes += 1
        if self.passes <= self.system.untimed_passes:
            yield self.batch
            return
        for _ in range(self.system.untimed_steps):
            yield self.batch
        own: list[Seconds] = []
        others: list[Seconds] = []
        self.own.append(own)
        self.others.append(others)
        for _ in range(self.rounds):
            start = now()
            self.other()
            others.append(since(start))
            start = now()
            yield self.batch
            own.append(since(start))
        if len(self.own) == self.system.timed_passes:
            raise Finished


def now() -> Seconds:
    return {name: clock() for name, clock in CLOCKS.items()}


def since(start: Seconds) -> Seconds:
    return {name: clock() - start[name] for name, clock in CLOCKS.items()}


def measure(system: System, checkout: Path, rounds: int, batch_size: int | None = None) -> dict[str, Any]:
    """Return seconds per step of the system and of modx, round by round, and the system's parameters."""
    batch = make_batch(batch_size or system.batch_size)
    modx = TrainingStep("modx")
    modx(batch)
    training = system.start(checkout, batch)
    batches = TimedBatches(to_peer_batch(batch), system, rounds, lambda: modx(batch))
    with contextlib.suppress(Finished):
        training.run(batches)
    assert len(batches.own) == system.timed_passes, "the training loop ended before every step was timed"
    return {
        "batch_size": len(batch["labels"]),
        "parameters": sum(part.numel() for part in training.model.parameters()),
        "modx_parameters": sum(part.numel() for part in modx.model.parameters()),
        # a step of several passes is their sum; modx took as many steps
        "seconds": {clock: [sum(part[clock] for part in parts) for parts in zip(*batches.own)] for clock in CLOCKS},
        "modx_seconds": {
            clock: [statistics.mean(part[clock] for part in parts) for parts in zip(*batches.others)]
            for clock in CLOCKS
        },
        "peak_gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def measure_in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``measure`` returns, or as ``error`` why the system's process ended."""
    command = [sys.executable, __file__, "--checkouts", str(options.checkouts), "--rounds", str(options.rounds)]
    if options.batch_size is not None:
        command += ["--batch_size", str(options.batch_size)]
    done = subprocess.run([*command, "--result_of", name], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"error": f"failed with exit status {done.returncode}: {lines[-1]}"}
    return json.loads(done.stdout)


def find(repository: Repository, checkouts: Path) -> tuple[bool, str]:
    """Return whether a repository is among the checkouts, and what a reader must know of it."""
    path, wanted = checkouts / repository.folder, repository.commit
    if not path.is_dir():
        clone = f"git clone {repository.address} {path} && git -C {path} checkout {wanted[:12]}"
        return False, f"not measured: there is no {path}. To get it: {clone}"
    command = ["git", "-C", str(path), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if found == wanted:
        return True, ""
    return True, f"measured at {found[:12] or 'an unknown commit'}; this script was written for {wanted[:12]}"


def measure_all(options: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Return the measurements of each system that is there, and the remarks on each system."""
    measured, remarks = {}, {}
    for name in options.systems:
        system = SYSTEMS[name]
        present, remark = (True, "") if system.repository is None else find(system.repository, options.checkouts)
        remarks[name] = [text for text in (system.note, remark) if text]
        if present:
            result = measure_in_own_process(name, options)
            if "error" in result:
                remarks[name].append(f"not measured: {result['error']}")
            else:
                measured[name] = result
        print(name, *remarks[name], sep="\n  ", file=sys.stderr)
    return measured, remarks


def to_markdown(measured: dict[str, dict[str, Any]], remarks: dict[str, list[str]], command: str) -> str:
    """Return the table, the most expensive system first, and the remarks."""

    def spread(values: Sequence[float]) -> str:
        low, high = summary(list(values))["quartiles"]
        return f"{statistics.median(values):.3g} ({low:.3g} to {high:.3g})"

    def ratios(result: dict[str, Any]) -> list[float]:
        seconds, modx = result["seconds"]["cpu"], result["modx_seconds"]["cpu"]
        return [own / other for own, other in zip(seconds, modx, strict=True)]

    order = sorted(measured, key=lambda name: -statistics.median(ratios(measured[name])))
    rows = [
        f"| {name} | {result['batch_size']} | {result['parameters'] / 1e6:.2f} | {spread(result['seconds']['cpu'])} | "
        f"{spread(result['seconds']['wall'])} | {spread(result['modx_seconds']['cpu'])} | {spread(ratios(result))} | "
        f"{result['peak_gibibytes']:.1f} |"
        for name, result in ((name, measured[name]) for name in order)
    ]
    sizes = {f"{result['modx_parameters'] / 1e6:.2f}" for result in measured.values()}
    sources = [
        f"| {name} | {SYSTEMS[name].repository.address} | `{SYSTEMS[name].repository.commit[:12]}` |"
        for name in remarks
        if SYSTEMS[name].repository is not None
    ]
    return "\n".join(
        [
            "One training step of other systems' own code, without the text encoder, CMU-MOSI's unaligned sizes: "
            "median and",
            "quartiles. [How it was measured](../peers.md).",
            "",
            "| system | batch | parameters, M | CPU seconds | wall seconds | modx beside it, CPU seconds | system / modx "
            "| memory of both, GiB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"DERL with modx has {', '.join(sorted(sizes))} M parameters.",
            "",
            *(f"- {name}: {' '.join(texts)}" for name, texts in remarks.items() if texts),
            "",
            "| system | code | commit |",
            "|---|---|---|",
            *sources,
            "",
            f"{cpu()}, {os.cpu_count()} cores, 1 thread, load {os.getloadavg()[0]:.1f} after; torch {torch.__version__}; "
            f"modx {commit()}; `{command}`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkouts", type=Path, required=True, help="folder of the systems' repositories")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="what to time")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each system")
    parser.add_argument("--batch_size", type=int, help="samples per step, instead of each system's own")
    parser.add_argument("--result_of", choices=SYSTEMS, help="print a system's measurements, made in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.result_of is not None:
        system = SYSTEMS[options.result_of]
        checkout = options.checkouts / ("" if system.repository is None else system.repository.folder)
        with contextlib.redirect_stdout(sys.stderr):  # the systems print
            result = measure(system, checkout.resolve(), options.rounds, options.batch_size)
        print(json.dumps(result))
        return
    table = to_markdown(*measure_all(options), " ".join(["python", *sys.argv]))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
