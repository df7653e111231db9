"""Recognize handwritten digits from three views with missing frames or views, and compare with plain models.

python examples/digits_views.py                  # one seed, a few minutes; nothing is downloaded
python examples/digits_views.py --seeds 5 --out digits.json --picture digits.png
python examples/digits_views.py --tune           # choose the settings below, on the validation split
"""

import ending  # isort: skip  # Ctrl-C ends the command with a line, from here on

import argparse
import shlex
import sys
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from matplotlib.backend_bases import FigureCanvasBase
from rich.console import Console
from rich.progress import track
from torch import nn

from arguments import count, target
from digits.baseline import ConcatBaseline
from digits.late import LateFusion
from digits.model import ViewsModel
from digits.report import CONCAT, LATE, OURS, Accuracies, draw, print_table, write
from digits.training import evaluate, train
from digits.views import Split, load_views

MODELS: dict[str, type[nn.Module]] = {OURS: ViewsModel, LATE: LateFusion, CONCAT: ConcatBaseline}
SETTINGS: dict[str, dict[str, Any]] = {  # chosen by --tune
    OURS: {"learning_rate": 3e-3, "dropout": 0.0},
    LATE: {"learning_rate": 6e-3},
    CONCAT: {"learning_rate": 1e-2, "dropout": 0.2, "hidden_dim": 248},
}
GRIDS: dict[str, dict[str, list[Any]]] = {
    OURS: {"learning_rate": [3e-3, 6e-3], "dropout": [0.0, 0.2]},
    LATE: {"learning_rate": [3e-3, 6e-3]},
    CONCAT: {"learning_rate": [1e-3, 3e-3, 1e-2], "dropout": [0.0, 0.2, 0.4, 0.6], "hidden_dim": [248, 496]},
}


@ending.command
def main() -> int:
    """Run the command."""
    options = parse()
    console = Console()
    splits = load_views()
    if options.tune:
        tune(splits, options.epochs, options.seeds, console)
        return 0
    started = perf_counter()
    accuracies: Accuracies = {name: [] for name in MODELS}
    sizes: dict[str, int] = {}
    for seed, name in track(list(product(range(options.seeds), MODELS)), "training", console=console, transient=True):
        model, _ = fit(name, SETTINGS[name], splits, options.epochs, seed)
        sizes[name] = sum(parameter.numel() for parameter in model.parameters())
        accuracies[name].append(evaluate(model, splits["test"]))
    counts = ", ".join(f"{len(split.labels)} {name}" for name, split in splits.items())
    console.print(f"Handwritten digits in three views: {counts}")
    console.print(f"seeds: {options.seeds}, epochs: {options.epochs}")
    console.print("parameters:", ", ".join(f"{size:,} {name}" for name, size in sizes.items()))
    print_table(accuracies, console)
    if options.out:
        facts = {"command": shlex.join(["python", *sys.argv]), "settings": SETTINGS, "epochs": options.epochs}
        write(options.out, accuracies, facts | {"parameters": sizes, "seconds": round(perf_counter() - started)})
    if options.picture:
        draw(accuracies).savefig(options.picture, dpi=150)
    return 0


def fit(
    name: str, settings: dict[str, Any], splits: dict[str, Split], epochs: int, seed: int
) -> tuple[nn.Module, float]:
    """Train one of ``MODELS``; return it with its accuracy on the validation split."""
    torch.manual_seed(seed)
    options = settings.copy()
    learning_rate = options.pop("learning_rate")
    model = MODELS[name](**options)
    return model, train(model, splits["train"], splits["valid"], learning_rate=learning_rate, epochs=epochs, seed=seed)


def tune(splits: dict[str, Split], epochs: int, seeds: int, console: Console) -> None:
    """Print the mean validation accuracy of every setting in ``GRIDS``, best first."""
    for name, grid in GRIDS.items():
        choices = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
        scores = {}
        for number, choice in enumerate(track(choices, f"tuning {name}", console=console, transient=True)):
            scores[number] = sum(fit(name, choice, splits, epochs, seed)[1] for seed in range(seeds)) / seeds
        console.print(f"{name}: mean accuracy over all conditions on the validation split, %")
        for number in sorted(scores, key=lambda number: -scores[number]):
            console.print(f"  {scores[number]:.2f}  " + ", ".join(f"{k} {v}" for k, v in choices[number].items()))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=count, default=1, help="number of seeds per model (default: 1)")
    parser.add_argument("--epochs", type=count, default=40, help="number of epochs (default: 40)")
    parser.add_argument("--out", type=target, help="JSON file for per-seed results")
    parser.add_argument("--picture", type=_picture, help="image file for the plot")
    parser.add_argument("--tune", action="store_true", help="compare all settings on the validation split instead")
    options = parser.parse_args()
    if options.tune and (options.out or options.picture):
        parser.error("--tune only prints; leave out --out and --picture")
    return options


def _picture(text: str) -> Path:
    known = FigureCanvasBase.get_supported_filetypes()
    if Path(text).suffix.removeprefix(".") not in known:
        raise argparse.ArgumentTypeError(f"expected a name that ends in one of {', '.join(known)}, got {text!r}")
    return target(text)


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors are too small for a second thread to help
    sys.exit(main())
