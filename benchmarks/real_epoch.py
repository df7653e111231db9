"""Time an epoch of training with a text encoder, with and without what makes it fast.

``python benchmarks/real_epoch.py --data unaligned_50.pkl --text_encoder bert-base-uncased``

"modx" encodes texts by length, folds frames and takes fused AdamW steps. "switched off" does none of these. Both train
for one epoch in float32, without dropout and on one thread, in a process of their own, and evaluate the validation
split.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # as pytest's pythonpath does

from derl.model import by_length
from derl.train import trainer as training
from derl.train.fit import open_trainer
from derl.train.options import Options, fill_in
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import make_optimizer
from modx import BottleneckEncoder
from real_step import by_parameter, drop_nothing
from record import cpu

MODES = ("modx", "switched off")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", required=True, help="CMU-MOSI, as for derl_mosi.py")
    parser.add_argument("--text_encoder", required=True, help="folder or name of the text encoder")
    parser.add_argument("--mode", choices=MODES, help="print the figures of one of the two as JSON")
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(train_epoch(options.data, options.text_encoder, options.mode)))
        return
    found = {}
    for mode in MODES:
        output = subprocess.run([sys.executable, *sys.argv, "--mode", mode], check=True, stdout=subprocess.PIPE).stdout
        found[mode] = json.loads(output.splitlines()[-1])
    print("| | CPU, s | wall, s | validation MAE | validation Corr |\n|---|---:|---:|---:|---:|")
    for mode, row in found.items():
        print(f"| {mode} | {row['cpu']:.1f} | {row['wall']:.1f} | {row['mae']:.4f} | {row['corr']:.4f} |")
    print(f"\nswitched off / modx, CPU time: {found['switched off']['cpu'] / found['modx']['cpu']:.2f}\n")
    print(f"{cpu()}, one thread; torch {torch.__version__}")


def train_epoch(data: str, text_encoder: str, mode: str) -> dict[str, float]:
    """Train for one epoch, evaluating at r = 0.5 on the validation split at its end."""
    torch.set_num_threads(1)
    options = fill_in(Options(data=data, text_encoder=text_encoder, epochs=1, precision="fp32"))
    with TemporaryDirectory() as name, contextlib.redirect_stdout(StringIO()), contextlib.ExitStack() as switches:
        if mode == "switched off":
            for owner, attribute, off in (
                (by_length, "_may_sort", lambda *_: False),
                (BottleneckEncoder, "_obstacle", lambda *_: "switched off"),
                (training, "make_optimizer", lambda *settings: by_parameter(make_optimizer(*settings))),
            ):
                switches.enter_context(patch.object(owner, attribute, off))
        folder = RunFolder(Path(name))
        setup = Setup.build(options, folder)
        drop_nothing(setup.model)
        trainer = open_trainer(setup, folder)
        cpu_time, wall = time.process_time(), time.perf_counter()
        trainer.train()
        seconds = {"cpu": time.process_time() - cpu_time, "wall": time.perf_counter() - wall}
        (metrics,) = (logs for logs in trainer.state.log_history if "eval_mae" in logs)
    return seconds | {"mae": metrics["eval_mae"], "corr": metrics["eval_corr"]}


if __name__ == "__main__":
    main()
