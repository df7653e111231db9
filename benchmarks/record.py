"""Provenance of results, and a results file that stays complete if the run is killed."""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]


def provenance(device: dict[str, Any]) -> dict[str, Any]:
    """Return machine, driver, versions, command and commit."""
    return {
        "machine": device | {"cpu": cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _triton(),
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit(),
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Return median, quartiles and all values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "quartiles": [low, high], "all": values}


def write(path: Path, results: dict[str, Any]) -> None:
    """Replace the file atomically, so that it can be read at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(results, indent=1) + "\n")
    draft.replace(path)


def _triton() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


def commit() -> str | None:
    """Return the commit of the running code."""
    return _output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12")


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None


def cpu() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
