"""Recognize actions from an inertial unit and a skeleton with missing frames or modalities, on UTD-MHAD.

python examples/actions_mhad.py --quick                  # two models, one fold, about 2 minutes
python examples/actions_mhad.py                          # every model, one seed, four folds of the training subjects
python examples/actions_mhad.py --seeds 5 --test         # read the test split
"""

import ending  # isort: skip  # Ctrl-C ends the command with a line, from here on

import argparse
import sys
from itertools import product
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from actions.clips import Clips, read_clips
from actions.ledger import Ledger
from actions.protocol import MODELS, Task, fit, split_clips
from actions.report import OURS, print_report
from arguments import count, target

FOLDS = (1, 3, 5, 7)  # the odd subjects, which are the training split
EPOCHS = 120
LEARNING_RATE = 2e-3
QUICK = {"models": [OURS, "late fusion"], "folds": [7], "epochs": 12}


@ending.command
def main() -> int:
    """Run the command."""
    options, clips, ledger = parse()
    console = Console(width=80)
    task = Task(clips, options.masks, options.epochs, options.learning_rate)
    wanted = [
        (seed, split, name) for seed, split, name in product(range(options.seeds), options.splits, options.models)
    ]
    records = []
    for seed, split, name in track(wanted, "training", console=console, transient=True):
        found = ledger.find(name, seed, split, task.settings)
        if found is None:
            try:
                ledger.add(found := fit(name, seed, split, task))
            except KeyboardInterrupt:
                raise ending.Stopped(f"stopped; run the command again to continue from {ledger.path}") from None
        records.append(found)
    console.print(f"UTD-MHAD, {len(clips.action)} clips; {', '.join(options.splits)}; seeds: {options.seeds}")
    console.print(f"epochs: {options.epochs}, learning rate: {options.learning_rate:g}")
    if options.quick:
        console.print("A quick look: one fold and few epochs. It compares nothing.")
    print_report(records, console)
    return 0


def parse() -> tuple[argparse.Namespace, Clips, Ledger]:
    """Read the command line and the files that it names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("utd_mhad.npz"),
        help="the data set: an .npz file, or a folder of its .mat files (default: utd_mhad.npz)",
    )
    parser.add_argument("--masks", type=Path, help="frame_loss_masks.npz, for the published conditions (default: none)")
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"any of {', '.join(MODELS)}")
    parser.add_argument("--seeds", type=count, default=1, help="number of seeds per model (default: 1)")
    parser.add_argument("--folds", nargs="+", type=int, help="odd subjects to leave out in turn (default: 1 3 5 7)")
    parser.add_argument("--test", action="store_true", help="train on all odd subjects and evaluate on the even ones")
    parser.add_argument("--epochs", type=count, help=f"number of epochs (default: {EPOCHS})")
    parser.add_argument("--learning_rate", type=_rate, default=LEARNING_RATE, help="peak (default: %(default)g)")
    parser.add_argument("--quick", action="store_true", help="two models, one fold, 12 epochs, about 2 minutes")
    parser.add_argument(
        "--out", type=target, default=Path("actions.jsonl"), help="file of records, continued (default: actions.jsonl)"
    )
    options = parser.parse_args()
    if options.test and (options.folds or options.quick):
        parser.error("--test evaluates on the even subjects; leave out --folds and --quick")
    quick = QUICK if options.quick else {}
    options.models = options.models or quick.get("models", list(MODELS))
    options.folds = options.folds or quick.get("folds", list(FOLDS))
    options.epochs = options.epochs or quick.get("epochs", EPOCHS)
    options.splits = ["test"] if options.test else [f"fold {subject}" for subject in options.folds]
    try:
        clips = read_clips(options.data)
        for split in options.splits:
            split_clips(clips, split)
        if options.masks and not options.masks.is_file():
            raise FileNotFoundError(f"--masks expected an .npz file, found none at {str(options.masks)!r}")
        return options, clips, Ledger(options.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return rate


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors are too small for a second thread to help
    sys.exit(main())
