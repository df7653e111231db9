"""Time ``import modx`` beyond ``import torch``: ``python benchmarks/import_time.py``.

Every measurement uses a fresh process. Processes that import only torch take turns with processes that import torch and
modx; the latter also time ``import modx`` after torch. One untimed process of each kind warms the disk cache.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from record import cpu, summary

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TORCH = "import torch"
BOTH = "import time, torch; start = time.perf_counter(); import modx; print(time.perf_counter() - start)"


def measure(processes: int) -> dict[str, list[float]]:
    """Return seconds per process, and seconds of ``import modx`` in the processes with modx."""
    seconds: dict[str, list[float]] = {"torch": [], "torch and modx": [], "modx after torch": []}
    for index in range(-1, processes):
        for name, statement in (("torch", TORCH), ("torch and modx", BOTH)):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", statement], cwd=ROOT, check=True, capture_output=True, text=True
            )
            if index < 0:
                continue
            seconds[name].append(time.perf_counter() - start)
            if done.stdout:
                seconds["modx after torch"].append(float(done.stdout))
    return seconds


def to_markdown(results: dict[str, Any]) -> str:
    rows = []
    for name, spread in results["seconds"].items():
        low, high = spread["quartiles"]
        rows.append(f"| {name} | {spread['median']:.3f} | {low:.3f} to {high:.3f} | {max(spread['all']):.3f} |")
    machine = results["machine"]
    return "\n".join(
        [
            f"Seconds of {results['processes']} fresh processes each: the whole process, and `import modx` alone in",
            "one that has imported torch.",
            "",
            "| imports | median | quartiles | most |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            f"{machine['cpu']}, {machine['cores']} cores, no GPU used, load {machine['load']:.1f} before; Python "
            f"{results['python']}, torch {results['torch']}; `{results['command']}`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=15, help="of each kind")
    options = parser.parse_args()
    results = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "python": sys.version.partition(" ")[0],
        "torch": torch.__version__,
        "command": " ".join(["python", *sys.argv]),
        "processes": options.processes,
        "seconds": {name: summary(values) for name, values in measure(options.processes).items()},
    }
    (RESULTS / "import_time.md").write_text(to_markdown(results))
    print(to_markdown(results))


if __name__ == "__main__":
    main()
