"""Time the encoder with folded and with wide frames: ``python benchmarks/bottleneck_encoder.py --folder FOLDER``.

Forward and backward of one modality at the paper's sizes for CMU-MOSI (width 128, 4 tokens, one block), by samples,
frames and their width. Both forms take turns, with the same weights; ratios are between the two steps of a round.
Results are compared first. Memory is, on a GPU, the peak above the level before.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from modx import BottleneckEncoder, encode
from record import provenance, summary, write
from stopwatch import CudaStopwatch, HostStopwatch, Stopwatch, interleaved

FORMS = {"wide": "asked for", "folded": None}
# samples, frames, their width: audio and vision of CMU-MOSI, and what says where folding starts to pay
SIZES = [
    *[(batch_size, 375, 5) for batch_size in (1, 4, 8, 16, 64, 256)],
    *[(batch_size, 500, 20) for batch_size in (1, 4, 8, 16, 64, 256)],
    *[(64, 50, width) for width in (5, 20, 64, 96, 127)],
]
Step = Callable[[], None]


def make_steps(batch_size: int, length: int, width: int, device: torch.device) -> dict[str, Step]:
    """Return forward and backward in both forms, after asserting that outputs and gradients agree."""
    torch.manual_seed(0)
    module = BottleneckEncoder({"a": width}, 128, num_tokens=4, max_lengths={"a": length}, device=device)
    frames = torch.randn(batch_size, length, width, device=device)
    mask = torch.rand(batch_size, length, device=device) < 0.9
    incoming = torch.randn(batch_size, 4, 128, device=device)

    def forward(form: str) -> torch.Tensor:
        with patch.object(encode, "why_not", lambda frames, dim: FORMS[form]):
            output: torch.Tensor = module({"a": frames}, {"a": mask})["a"]
        return output

    def step(form: str) -> None:
        forward(form).backward(incoming)

    results = {}
    for form in FORMS:
        output = forward(form)
        results[form] = [output, *torch.autograd.grad(output, list(module.parameters()), incoming)]
    for got, expected in zip(*results.values(), strict=True):
        assert (got - expected).norm() <= 1e-3 * (expected.norm() + 1), "the two forms differ"
    return {form: partial(step, form) for form in FORMS}


def measure(size: tuple[int, int, int], stopwatch: Stopwatch, rounds: int) -> dict[str, Any]:
    steps = make_steps(*size, stopwatch.device)
    seconds = interleaved(stopwatch.seconds, steps, rounds)
    return {
        "size": size,
        "seconds": {form: summary(values) for form, values in seconds.items()},
        "speed_up": summary([a / b for a, b in zip(seconds["wide"], seconds["folded"], strict=True)]),
        "peak_bytes": {form: stopwatch.peak_bytes(step) for form, step in steps.items()},
    }


def to_markdown(results: dict[str, Any]) -> str:
    rows = []
    for part in results["encoder"]:
        milliseconds = [f"{1e3 * part['seconds'][form]['median']:.2f}" for form in FORMS]
        peaks = ["-" if peak is None else f"{peak / 2**20:.0f}" for peak in part["peak_bytes"].values()]
        low, high = part["speed_up"]["quartiles"]
        ratio = f"{part['speed_up']['median']:.2f} ({low:.2f} to {high:.2f})"
        rows.append(f"| {' | '.join([*map(str, part['size']), *milliseconds, ratio, *peaks])} |")
    machine = results["machine"]
    return "\n".join(
        [
            "Forward and backward of `BottleneckEncoder`, one modality, one block, width 128, 4 tokens, float32:",
            "median, and quartiles of the ratio.",
            "",
            "| samples | frames | width | wide, ms | folded, ms | wide / folded | wide, MiB | folded, MiB |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|",
            *rows,
            "",
            f"{machine['gpu'] or machine['cpu']}, {machine['threads']} threads; torch {results['torch']}; "
            f"`{results['command']}`",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where bottleneck_encoder.json and .md go")
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each form")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes on a CPU: figures mean nothing")
    options = parser.parse_args()
    on_gpu = torch.cuda.is_available() and not options.dry_run
    stopwatch: Stopwatch = CudaStopwatch() if on_gpu else HostStopwatch()
    results: dict[str, Any] = {"dry_run": options.dry_run, **provenance(stopwatch.describe()), "encoder": []}
    for size in [(8, 3, 5)] if options.dry_run else SIZES:
        part = measure(size, stopwatch, 3 if options.dry_run else options.rounds)
        results["encoder"].append(part)
        write(options.folder / "bottleneck_encoder.json", results)
        print(f"{size}: wide / folded {part['speed_up']['median']:.2f}", flush=True)
        stopwatch.release()
    if options.dry_run:
        print("dry run: figures mean nothing, no table is written")
    else:
        (options.folder / "bottleneck_encoder.md").write_text(to_markdown(results))


if __name__ == "__main__":
    main()
