"""Time one training step of other systems beside DERL: ``python benchmarks/peers.py --checkouts FOLDER``.

Each system's own training loop runs at CMU-MOSI's unaligned sizes, with its text encoder replaced by given states. The
batches that it asks for hold the watch: from one request to the next, the loop takes one step. Before each step, modx
takes one. Every system has a process of its own, with one thread. ``peers.md`` says more.
"""

import argparse
import contextlib
import json
import os
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from peer_systems import SYSTEMS, Repository, System, to_peer_batch
from record import commit, cpu, summary
from training_step import RESULTS, Batch, TrainingStep, make_batch, ratios, spread

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Times = dict[str, list[float]]


class Finished(Exception):
    """Leaves a system's training loop once every step is timed."""


class TimedBatches:
    """A system's training data: the same batch again and again, and the time between two requests for it.

    Args:
        batch: what every step is given.
        system: which passes and steps are timed.
        rounds: timed steps per pass.
        modx: takes a step before each timed one, and is timed too.
    """

    def __init__(self, batch: Batch, system: System, rounds: int, modx: Callable[[], object]) -> None:
        self.batch, self.system, self.rounds, self.modx = batch, system, rounds, modx
        self.passes = 0
        self.timed: list[dict[str, Times]] = []  # of each timed pass

    def __len__(self) -> int:
        return self.system.untimed_steps + self.rounds

    def __iter__(self) -> Iterator[Batch]:
        self.passes += 1
        if self.passes <= self.system.untimed_passes:
            yield self.batch
            return
        for _ in range(self.system.untimed_steps):
            yield self.batch
        seconds: dict[str, Times] = {name: {clock: [] for clock in CLOCKS} for name in ("system", "modx")}
        self.timed.append(seconds)
        for _ in range(self.rounds):
            with clocked(seconds["modx"]):
                self.modx()
            with clocked(seconds["system"]):
                yield self.batch
        if len(self.timed) == self.system.timed_passes:
            raise Finished

    def seconds(self) -> dict[str, dict[str, list[float]]]:
        """Return wall and CPU seconds of both, round by round. A step of several passes is their sum."""
        assert len(self.timed) == self.system.timed_passes, "the training loop ended before every step was timed"
        combine = {"system": sum, "modx": statistics.mean}
        return {
            name: {
                clock: [of(parts) for parts in zip(*(seconds[name][clock] for seconds in self.timed), strict=True)]
                for clock in CLOCKS
            }
            for name, of in combine.items()
        }


@contextlib.contextmanager
def clocked(times: Times) -> Iterator[None]:
    """Append the seconds that the block takes."""
    start = {name: clock() for name, clock in CLOCKS.items()}
    yield
    for name, clock in CLOCKS.items():
        times[name].append(clock() - start[name])


def measure(system: System, checkout: Path, rounds: int, batch_size: int | None = None) -> dict[str, Any]:
    """Time a system's steps and those of modx in this process; count parameters and memory."""
    batch = make_batch(batch_size or system.batch_size)
    modx = TrainingStep("modx")
    modx(batch)
    training = system.start(checkout, batch)
    batches = TimedBatches(to_peer_batch(batch), system, rounds, lambda: modx(batch))
    with contextlib.suppress(Finished):
        training.run(batches)
    return {
        "batch_size": len(batch["labels"]),
        "parameters": {"system": count_parameters(training.model), "modx": count_parameters(modx.model)},
        "seconds": batches.seconds(),
        "peak_gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def measure_in_own_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``measure`` returns, or as ``error`` why the system's process ended."""
    command = [sys.executable, __file__, "--checkouts", str(options.checkouts), "--rounds", str(options.rounds)]
    if options.batch_size is not None:
        command += ["--batch_size", str(options.batch_size)]
    done = subprocess.run([*command, "--result_of", name], capture_output=True, text=True)
    if done.returncode < 0:
        sent = signal.Signals(-done.returncode).name
        return {"error": f"the process was ended by {sent}, which is what happens where memory runs out"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"error": f"exit status {done.returncode}, {lines[-1]}"}
    return json.loads(done.stdout)


def find(repository: Repository, checkouts: Path) -> tuple[bool, str]:
    """Return whether a repository is among the checkouts, and a remark if it is not there as it should be."""
    path, wanted = checkouts / repository.folder, repository.commit
    if not path.is_dir():
        folder = repository.folder
        clone = f"git clone {repository.address} {folder} && git -C {folder} checkout {wanted[:12]}"
        return False, f"Not measured: there is no folder {folder} among the checkouts. To get it: `{clone}`."
    command = ["git", "-C", str(path), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if found == wanted:
        return True, ""
    return True, f"Measured at {found[:12] or 'no commit'}; this script was written for {wanted[:12]}."


def measure_all(options: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Return the measurements of every system that is there, and remarks on every system."""
    measured, remarks = {}, {}
    for name in options.systems:
        system = SYSTEMS[name]
        present, remark = (True, "") if system.repository is None else find(system.repository, options.checkouts)
        remarks[name] = [text for text in (system.note, remark) if text]
        if present:
            result = measure_in_own_process(name, options)
            if "error" in result:
                remarks[name].append(f"Not measured: {result['error']}.")
            else:
                measured[name] = result
        print(f"{name}:", "measured" if name in measured else remarks[name][-1], file=sys.stderr)
    return measured, remarks


def to_markdown(measured: dict[str, dict[str, Any]], remarks: dict[str, list[str]], command: str) -> str:
    """Return the table, the most expensive system first, and the remarks."""
    rows = []
    for name, result in measured.items():
        ratio = summary(ratios(result["seconds"], "system", "modx", "cpu"))
        cells = [*_cells(result, "system", [result]), spread(ratio), f"{result['peak_gibibytes']:.1f}"]
        rows.append((ratio["median"], [name, *cells]))
    for size in {result["batch_size"] for result in measured.values()}:
        beside = [result for result in measured.values() if result["batch_size"] == size]
        rows.append((1.0, ["DERL with modx", *_cells(beside[0], "modx", beside), "1", ""]))
    codes = {name: code for name in remarks if (code := SYSTEMS[name].repository) is not None}
    return "\n".join(
        [
            "One training step of other systems' own code, without text encoders, at CMU-MOSI's unaligned sizes: "
            "medians and",
            "quartiles. [How it is measured](../peers.md).",
            "",
            "| system | batch | parameters, millions | wall, s | CPU, s | system / modx, CPU | process, GiB |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *(f"| {' | '.join(cells)} |" for _, cells in sorted(rows, reverse=True)),
            "",
            *(f"- {name}: {' '.join(texts)}" for name, texts in remarks.items() if texts),
            "",
            "Their code:",
            "",
            *(f"- {name}: {code.address} at `{code.commit[:12]}`" for name, code in codes.items()),
            "",
            f"{cpu()}, {os.cpu_count()} cores, 1 thread, load {os.getloadavg()[0]:.1f} at the end; torch "
            f"{torch.__version__}; modx {commit()}; `{command}`",
            "",
        ]
    )


def _cells(result: dict[str, Any], name: str, results: list[dict[str, Any]]) -> list[str]:
    """Return batch size, parameters and times; the times are those of all results."""
    times = [[time for each in results for time in each["seconds"][name][clock]] for clock in CLOCKS]
    return [str(result["batch_size"]), f"{result['parameters'][name] / 1e6:.2f}", *map(spread, map(summary, times))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkouts", type=Path, required=True, help="folder of the systems' repositories")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="what to time")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each system")
    parser.add_argument("--batch_size", type=int, help="samples per step, instead of those in the table")
    parser.add_argument("--result_of", choices=SYSTEMS, help="time one system in this process and print JSON")
    options = parser.parse_args()
    if options.result_of is not None:
        torch.set_num_threads(1)
        system = SYSTEMS[options.result_of]
        checkout = options.checkouts / ("" if system.repository is None else system.repository.folder)
        with contextlib.redirect_stdout(sys.stderr):  # the systems print
            result = measure(system, checkout.resolve(), options.rounds, options.batch_size)
        print(json.dumps(result))
        return
    command = shlex.join(["python", *("FOLDER" if word == str(options.checkouts) else word for word in sys.argv)])
    table = to_markdown(*measure_all(options), command)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
