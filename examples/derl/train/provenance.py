"""The provenance of results: data, options, command, machine and versions."""

import os
import platform
import shlex
import sys
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from derl.train.setup import Setup
from machine import processor


def provenance(setup: Setup, checkpoint: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """Return the provenance of a run: data, seed, checkpoint, command, machine and versions."""
    return {
        "model": setup.model_name,
        "seed": setup.options.seed,
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": {
            name: version(name)
            for name in ("modx", "torch", "transformers", "torchmetrics", "safetensors", "tokenizers")
        }
        | {"python": platform.python_version()},
        "data": {
            "name": setup.data_name,
            "synthetic": setup.synthetic is not None,
            "modalities": list(setup.model.config.modalities),
            "sizes": {name: len(split) for name, split in setup.splits.items()},
        },
        "checkpoint": checkpoint,
        "seconds": seconds,
        "options": asdict(setup.options),
    }


def machine() -> str:
    """Describe the processor, cores, threads, accelerator and MKL mode."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    threads = torch.get_num_threads()
    counted = f"{threads} thread{'s' if threads > 1 else ''}"
    mode = os.environ.get("MKL_CBWR", "unset")
    return f"{processor()}, {os.cpu_count()} cores, {counted}, {device}, MKL_CBWR {mode}"
