"""Watch memory, open files and threads over 20,000 training steps, and memory over evaluation sets of growing size.

python tests/robustness/scripts/long_run.py --figure docs/images/long_run.png       # about twenty minutes
python tests/robustness/scripts/long_run.py --steps 400 --samples 20 --times 1 10
"""

import argparse
import gc
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch
from matplotlib.figure import Figure
from transformers import TrainerCallback
from transformers.utils.logging import disable_progress_bar

sys.path.append(str(Path(__file__).parents[3] / "examples"))  # as pytest's pythonpath does

from derl.data.collate import Collator
from derl.data.load import load_data
from derl.data.missing import MissingDataset
from derl.data.shard_writer import ShardWriter
from derl.evaluate.conditions import Condition
from derl.evaluate.scores import predict
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.train import setup
from derl.train.options import parse as parse_run
from derl.train.run import RunFolder
from derl.train.trainer import SentimentTrainer, make_trainer

WIDTHS, FRAMES = {"audio": 74, "vision": 35}, 200  # CMU-MOSEI's widths
EVERY = 100  # steps
WARM_UP = 0.1  # of all steps


class Watch(TrainerCallback):
    """Note step, resident MiB, open files, threads and Python objects every so many steps."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.process = psutil.Process()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % EVERY == 0:
            gc.collect()
            self.rows.append(
                {
                    "step": state.global_step,
                    "memory": self.process.memory_info().rss / 2**20,
                    "files": self.process.num_fds(),
                    "threads": self.process.num_threads(),
                    "objects": len(gc.get_objects()),
                }
            )


def train(steps: int, folder: Path) -> list[dict[str, float]]:
    """Train the small model by the robust recipe: ten epochs, each judged and saved as a run's are."""
    setup.SMOKE_SIZES = {"train": max(steps // 10 * 2, 2), "valid": 16, "test": 16}
    options = parse_run(
        ["--preset", "smoke", "--epochs", "10", "--batch_size", "2", "--recipe", "robust", "--select_rates", "0.5"]
    )
    made = setup.Setup.build(options, RunFolder(folder))
    valid = [made.dataset("valid", Condition("r=0.5", rate=0.5))]
    trainer = make_trainer(SentimentTrainer, made.model, made.collator, made.dataset("train"), valid, options, folder)
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    return watch.rows


def growth(rows: list[dict[str, float]], name: str) -> tuple[float, float]:
    """Medians of the first and of the last tenth after the warm-up."""
    values = [row[name] for row in rows][int(WARM_UP * len(rows)) :]
    tenth = max(len(values) // 10, 1)
    return statistics.median(values[:tenth]), statistics.median(values[-tenth:])


def write(folder: Path, count: int) -> None:
    """Shards of ``count`` made-up test samples, written one at a time."""
    draw = torch.Generator().manual_seed(0)
    with ShardWriter(folder) as writer:
        for split, samples in (("train", 1), ("valid", 1), ("test", count)):
            for index in range(samples):
                features = {name: torch.randn(FRAMES, width, generator=draw) for name, width in WIDTHS.items()}
                writer.add(split, f"clip_{index}", 0.0, features=features)


class Peak(TrainerCallback):
    """The most of its own memory, without mapped files, that the process has had after a batch, in MiB."""

    most = 0.0

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        status = Path("/proc/self/status").read_text()
        self.most = max(self.most, int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) / 1024)


def judge(path: Path) -> None:
    """Score a test set from shards, and print the most memory that it took."""
    torch.set_num_threads(1)
    split = load_data(path, path)["test"]
    config = DerlConfig.smoke(modalities=list(WIDTHS), input_dims=WIDTHS, max_lengths=dict.fromkeys(WIDTHS, FRAMES))
    options = parse_run(["--preset", "smoke"])
    dataset = MissingDataset(
        split, None, max_lengths=config.max_lengths, modalities=tuple(WIDTHS), seed=0, rate=0.5, pattern="frames"
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = make_trainer(
            SentimentTrainer, DerlModel(config), Collator(0), dataset, [dataset], options, Path(scratch)
        )
        peak = Peak()
        trainer.add_callback(peak)
        predicted = predict(trainer, {"r=0.5": dataset})["r=0.5"]
    assert predicted.scores.shape == (len(split),)
    assert predicted.scores.isfinite().all()
    peak.on_prediction_step()
    print(json.dumps(peak.most))


def draw(rows: list[dict[str, float]]) -> Figure:
    """Memory above, open files and threads below."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    steps = [row["step"] for row in rows]
    above.plot(steps, [row["memory"] for row in rows], color="#0072B2")
    above.set(ylabel="resident memory (MiB)", ylim=(0, 1.2 * max(row["memory"] for row in rows)))
    below.plot(steps, [row["files"] for row in rows], color="#D55E00", label="open files")
    below.plot(steps, [row["threads"] for row in rows], color="#009E73", linestyle="--", label="threads")
    below.set(xlabel="training step", ylabel="count", ylim=(0, 1.4 * max(row["files"] for row in rows)))
    below.legend(frameon=False, ncols=2, loc="upper right")
    for axes in (above, below):
        axes.axvspan(0, WARM_UP * steps[-1], color="#dddddd", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=50, help="of the smallest evaluation set")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100], help="sizes of the others")
    parser.add_argument("--figure", type=Path, help="image file for the training run")
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge is not None:
        judge(options.judge)
        return 0
    torch.set_num_threads(1)
    disable_progress_bar()  # of writing weights
    with tempfile.TemporaryDirectory() as scratch:
        rows = train(options.steps, Path(scratch))
        print(f"{options.steps} training steps, medians of the first and the last tenth after a warm-up of a tenth:")
        for name in ("memory", "files", "threads", "objects"):
            first, last = growth(rows, name)
            print(f"  {name:8} {first:12,.1f} {last:12,.1f}")
        if options.figure is not None:
            draw(rows).savefig(options.figure, dpi=150)
        print("evaluation from shards: samples, MiB of data, MiB of memory")
        for times in options.times:
            folder = Path(scratch) / f"{times}x"
            write(folder, options.samples * times)
            size = sum(part.stat().st_size for part in folder.iterdir()) / 2**20
            command = [sys.executable, __file__, "--judge", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"  {options.samples * times:6d} {size:8.1f} {float(done.stdout.splitlines()[-1]):8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
