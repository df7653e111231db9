"""Predict death in hospital from 48 hours of intensive care (PhysioNet 2012), and compare networks and boosting.

python examples/icu_mortality.py --data physionet2012.npz --quick        # one split, few epochs, about two minutes
python examples/icu_mortality.py --data physionet2012.npz --out icu.jsonl
python examples/icu_mortality.py --data physionet2012.npz --out icu.jsonl --test    # once, when all is chosen
"""

import ending  # isort: skip  # Ctrl-C ends the command with a line, from here on

import argparse
import sys
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from rich.console import Console
from rich.progress import track

from arguments import count, target
from icu.experiment import MODELS, key, run
from icu.ledger import Ledger, Record
from icu.models import NETWORKS
from icu.report import print_report
from icu.stays import SPLITS, Stays, read_stays

EPOCHS = 8  # twice over each copy of the training stays
LEARNING_RATES = (2e-3, 4e-3)  # the grid of --tune
CHOSEN = dict.fromkeys(NETWORKS, 4e-3)  # one for all: they were not tuned one by one
QUICK = {"models": ["modx", "late", "boosting"], "splits": [1], "epochs": 3}


@ending.command
def main() -> int:
    """Run the command; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    options = parse()
    console = Console()
    try:
        ledger, stays = Ledger(options.out), read_stays(options.data)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(f"{len(stays.died):,} stays, {100 * stays.died.mean():.1f} % of them ended with death in hospital")
    try:
        if options.tune:
            tune(options, stays, ledger, console)
        else:
            compare(options, stays, ledger, console)
    except KeyboardInterrupt:
        kept = (
            f"finished runs are in {options.out}. Run the same command to resume." if options.out else "nothing is kept"
        )
        raise ending.Stopped(f"stopped; {kept}") from None
    return 0


def compare(options: argparse.Namespace, stays: Stays, ledger: Ledger, console: Console) -> None:
    """Run every model on every split and seed that the ledger lacks, and print the report."""
    part = "test" if options.test else "valid"
    settings = [
        {"model": model, "learning_rate": CHOSEN.get(model, 0.0), "epochs": options.epochs} for model in options.models
    ]
    records = _run_all(settings, options, stays, ledger, console)
    print_report(dict(zip(options.models, records, strict=True)), part, console)
    print_cost(options.models, records, console)


def tune(options: argparse.Namespace, stays: Stays, ledger: Ledger, console: Console) -> None:
    """Print how each network does on the validation stays at each learning rate, best first."""
    for model in (name for name in options.models if name in NETWORKS):
        settings = [{"model": model, "learning_rate": rate, "epochs": options.epochs} for rate in LEARNING_RATES]
        records = _run_all(settings, options, stays, ledger, console)
        scores = {
            rate: [mean(one["valid"]["complete"][metric] for one in found) for metric in ("auroc", "auprc")]
            for rate, found in zip(LEARNING_RATES, records, strict=True)
        }
        for rate, (auroc, auprc) in sorted(scores.items(), key=lambda item: -sum(item[1])):
            console.print(f"{model} at {rate:g}: AUROC {auroc:.2f}, AUPRC {auprc:.2f} on the validation stays")


def print_cost(models: list[str], records: list[list[Record]], console: Console) -> None:
    """Print how long each model trains."""
    costs = (
        f"{name} {mean(one['seconds'] for one in found):.0f} s" for name, found in zip(models, records, strict=True)
    )
    console.print("processor time of one training: " + ", ".join(costs))


def _run_all(
    settings: list[dict], options: argparse.Namespace, stays: Stays, ledger: Ledger, console: Console
) -> list[list[Record]]:
    """Return the records of each setting, one per split and seed."""
    parts = ("test",) if options.test else ("valid",)
    places = list(product(options.splits, range(options.seeds)))  # every model on one split, then on the next
    found: list[list[Record]] = [[] for _ in settings]
    jobs = list(product(places, enumerate(settings)))
    for (split, seed), (number, setting) in track(jobs, "training", console=console, transient=True):
        run_key = key(split=split, seed=seed, **setting)
        record = ledger.find(run_key, parts)
        if record is None:
            record = run(run_key, stays, parts)
            ledger.add(record)
        found[number].append(record)
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, help=".npz file, or folder of the challenge's text files")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="models to compare (default: all)")
    parser.add_argument("--splits", nargs="+", type=_split, help="splits, from 1 to 5 (default: all)")
    parser.add_argument("--seeds", type=count, default=1, help="number of seeds per split (default: 1)")
    parser.add_argument("--epochs", type=count, help=f"number of epochs (default: {EPOCHS})")
    parser.add_argument("--out", type=target, help="file of finished runs, one JSON line each; resumes if it exists")
    parser.add_argument("--quick", action="store_true", help="three models, one split, three epochs unless given")
    parser.add_argument("--tune", action="store_true", help="compare learning rates on the validation stays instead")
    parser.add_argument("--test", action="store_true", help="report the test stays, not the validation stays")
    options = parser.parse_args()
    if options.tune and options.test:
        parser.error("--tune reads validation stays only; leave out --test")
    defaults = QUICK if options.quick else {"models": list(MODELS), "splits": [*range(1, SPLITS + 1)], "epochs": EPOCHS}
    for name, value in defaults.items():
        setattr(options, name, getattr(options, name) or value)
    return options


def _split(text: str) -> int:
    if text not in map(str, range(1, SPLITS + 1)):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {SPLITS}, got {text!r}")
    return int(text)


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors are too small for a second thread to help
    sys.exit(main())
