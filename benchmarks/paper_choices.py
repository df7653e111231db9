"""Measure the paper's open choices: ``python benchmarks/paper_choices.py --data FILE --text_encoder FOLDER``.

Each row changes one setting of ``--recipe paper`` and trains with ``examples/derl_mosi.py``, on the synthetic data and
on the file given by ``--data``. The checkpoint is selected on validation at r = 0.5. Results are averages over r = 0 ..
0.9 on the test split, all with that checkpoint. Finished runs are kept in ``--records``, seed by seed, so that an
interrupted study can resume.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import ROOT, commit, write

CHOICES: dict[str, list[str]] = {
    "as printed": [],
    "weights of eq. 5 and 12: 0.1 and 0.1": ["--orthogonality_weight", "0.1", "--reconstruction_weight", "0.1"],
    "eq. 12 without its 1/3": ["--reconstruction_weight", "3"],
    "targets detached": ["--detach_target", "true"],
    "features standardized": ["--standardize", "true"],
}
METRICS = {"mae": 3, "corr": 3, "acc2_non0": 2}
RECORDS = ROOT / "docs" / "results" / "paper_choices.json"


@dataclass(frozen=True)
class Run:
    """One training."""

    data: str
    choice: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.data} | {self.choice} | {self.seed}"

    def train(self, data: Sequence[str], threads: int) -> dict[str, Any]:
        """Run the command in a temporary folder; return its averages and their provenance."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "run"
            options = [
                "--recipe",
                "paper",
                "--precision",
                "fp32",
                "--seed",
                str(self.seed),
                *data,
                *CHOICES[self.choice],
            ]
            command = [sys.executable, str(ROOT / "examples" / "derl_mosi.py"), *options]
            environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
            subprocess.run(
                [*command, "--output_dir", str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL
            )
            results = json.loads((folder / "results.json").read_text())
        average = results["intra_modal"]["average"]["DERL"]
        shown = ["python", "examples/derl_mosi.py", *(Path(word).name if "/" in word else word for word in options)]
        return {
            "average": {name: average[name] for name in METRICS},
            "valid_mae": results["checkpoint"]["value"],
            "epoch": results["checkpoint"]["epoch"],
            "command": " ".join(shown),
            "machine": results["machine"],
            "torch": results["versions"]["torch"],
            "commit": commit(),
            "seconds": results["seconds"],
        }


def to_markdown(records: dict[str, Any], data: str) -> str:
    """Format mean and standard deviation over seeds per choice."""
    lines = ["| | MAE | Corr | Acc-2 non0 | validation MAE, r = 0.5 | seeds |", "|---|---:|---:|---:|---:|---:|"]
    for choice in CHOICES:
        runs = [records[key] for key in sorted(records) if key.startswith(f"{data} | {choice} |")]
        if not runs:
            lines.append(f"| {choice} | missing | missing | missing | missing | 0 |")
            continue
        cells = [
            _cell([(100 if name == "acc2_non0" else 1) * run["average"][name] for run in runs], digits)
            for name, digits in METRICS.items()
        ]
        lines.append(
            f"| {choice} | {' | '.join(cells)} | {_cell([run['valid_mae'] for run in runs], 3)} | {len(runs)} |"
        )
    return "\n".join(lines)


def _cell(values: Sequence[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a file as derl_mosi.py reads it; left out: the synthetic data alone")
    parser.add_argument("--text_encoder", default="bert-base-uncased", help="for --data")
    parser.add_argument("--real_options", default="--epochs 6 --learning_rate 1e-3 --text_learning_rate 2e-4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, each on its share of the cores")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--report_only", action="store_true")
    options = parser.parse_args()
    sources = {"synthetic": []}
    if options.data is not None:
        own = ["--data", options.data, "--text_encoder", options.text_encoder, *options.real_options.split()]
        sources[Path(options.data).name] = own
    records = json.loads(options.records.read_text()) if options.records.exists() else {}
    runs = [Run(data, choice, seed) for seed in range(options.seeds) for data in sources for choice in CHOICES]
    threads = max((os.cpu_count() or 1) // options.jobs, 1)

    def train(run: Run) -> None:
        records[run.key] = run.train(sources[run.data], threads)
        write(options.records, dict(sorted(records.items())))
        print(run.key, records[run.key]["average"], flush=True)

    if not options.report_only:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(train, [run for run in runs if run.key not in records]))
    for data in dict.fromkeys([*sources, *(key.split(" | ")[0] for key in records)]):
        print(f"\n{data}\n\n{to_markdown(records, data)}")


if __name__ == "__main__":
    main()
