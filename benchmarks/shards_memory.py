"""Measure the memory of one epoch of data loading from shards, over the size of the data.

Random features with CMU-MOSEI's widths and 500 frames per sample are written one sample at a time, and read once
through the examples' data set and collator, each in its own process: ``python benchmarks/shards_memory.py``.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch.utils.data import DataLoader

EXAMPLES = Path(__file__).parents[1] / "examples"
WIDTHS = {"audio": 74, "vision": 35}
FRAMES = 500
SAMPLES = 300  # at 1x
TIMES = (1, 5, 20)
HEADER = ["samples", "data, MiB", "own memory, MiB", "with mapped pages, MiB"]


def write(folder: Path, count: int) -> None:
    """Write shards of ``count`` training samples."""
    from derl.data.shard_writer import ShardWriter

    draw = torch.Generator().manual_seed(0)
    with ShardWriter(folder, shard_bytes=64 * 2**20) as writer:
        for split, samples in (("train", count), ("valid", 1), ("test", 1)):
            for index in range(samples):
                features = {name: torch.randn(FRAMES, width, generator=draw) for name, width in WIDTHS.items()}
                writer.add(split, f"clip_{index}", 0.0, features=features)


def read(path: Path) -> None:
    """Serve one epoch and print its peak memory in MiB: the process's own, and with mapped pages."""
    from derl.data.collate import Collator
    from derl.data.load import load_data
    from derl.data.missing import MissingDataset

    split = load_data(path, path)["train"]
    dataset = MissingDataset(
        split, None, max_lengths=dict.fromkeys(WIDTHS, FRAMES), modalities=split.modalities, seed=0
    )
    most = (0.0, 0.0)
    for batch in DataLoader(dataset, batch_size=16, shuffle=True, collate_fn=Collator(0)):
        assert batch["inputs"]["audio"].isfinite().all()
        most = max(most[0], _memory("RssAnon")), max(most[1], _memory("VmRSS"))
    print(json.dumps(most))


def main() -> None:
    """Measure, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="at 1x (default: %(default)s)")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(EXAMPLES))
    if options.read is not None:
        read(options.read)
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for times in TIMES:
            folder = Path(scratch) / f"{times}x"
            write(folder, options.samples * times)
            size = sum(part.stat().st_size for part in folder.iterdir()) / 2**20
            rows.append([options.samples * times, size, *_apart(folder)])
    lines = [f"| {' | '.join(HEADER)} |", "|" + " ---: |" * len(HEADER)]
    lines += [f"| {' | '.join(f'{value:,.0f}' for value in row)} |" for row in rows]
    machine = f"{platform.machine()}, torch {torch.__version__}; no worker processes, batches of 16"
    lines += ["", f"`python benchmarks/shards_memory.py`, {machine}."]
    print("\n".join(lines))


def _apart(path: Path) -> list[float]:
    done = subprocess.run([sys.executable, __file__, "--read", str(path)], capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
