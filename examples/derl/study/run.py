"""Run the unfinished cells of a study, in one process or several at once."""

import gc
import resource
import shutil
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from derl.data.missing import MissingDataset
from derl.data.split import DataError
from derl.evaluate.conditions import RATES, intra_modal, pattern_conditions, table_conditions
from derl.evaluate.diagnostics import diagnose
from derl.evaluate.protocol import routing
from derl.evaluate.scores import predict
from derl.evaluate.sentiment import SENTIMENT
from derl.study.cells import Cell
from derl.study.ledger import Ledger, Record
from derl.study.statistics import epoch_values
from derl.train.options import Options
from derl.train.provenance import machine
from derl.train.recipes import LAST
from derl.train.run import RunError, RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, make_trainer

POLL_SECONDS = 1.0


def run_cells(ledger: Ledger, cells: Sequence[Cell], study: Options) -> dict[Cell, Exception]:
    """Run every cell once. Wait for cells that other processes run, and take them over if those die.

    Returns:
        The cells that failed in this process (e.g. training diverged) and their errors. A failure does not stop the
        others.
    """
    failed: dict[Cell, Exception] = {}
    done = len(cells) - len(ledger.missing(cells))
    with tqdm(total=len(cells), initial=done, desc="cells", unit="cell", smoothing=0) as bar:
        while missing := [cell for cell in ledger.missing(cells) if cell not in failed]:
            worked = False
            for cell in missing:
                bar.set_postfix_str(cell.key)
                try:
                    worked = _claim_and_run(ledger, cell, study) or worked
                except (DataError, RunError):  # errors of the study, not of the cell
                    raise
                except Exception as error:
                    failed[cell], worked = error, True
                    bar.write(f"{cell.key} failed: {type(error).__name__}: {error}")
                gc.collect()
                bar.n = len(cells) - len(ledger.missing(cells))
                bar.refresh()
            if not worked:
                bar.set_postfix_str("waiting for other processes")
                time.sleep(POLL_SECONDS)
    return failed


def _claim_and_run(ledger: Ledger, cell: Cell, study: Options) -> bool:
    """Run a cell unless it is done or another process runs it."""
    with ledger.claim(cell) as claim:
        if claim is not None:
            claim.finish(run_cell(cell, study, ledger.folder, ledger.work_folder(cell)))
        return claim is not None


class CellTrainer(SentimentTrainer):
    """A trainer that scores the validation and test splits after every epoch and keeps the scores.

    Only the validation split selects a checkpoint. The test scores of other epochs are kept for the protocol that
    selects on the test split, and to show what selection costs.

    Args:
        datasets: split -> condition -> the split under that condition.
        arguments: passed to ``SentimentTrainer``.
    """

    def __init__(self, *, datasets: dict[str, dict[str, MissingDataset]], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.datasets = datasets
        self.scores: dict[str, list[np.ndarray]] = {split: [] for split in datasets}
        self.seconds_evaluating = 0.0

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Score both splits; return the validation metrics that select the checkpoint."""
        started = time.perf_counter()
        everything = {
            f"{split} / {name}": part for split, parts in self.datasets.items() for name, part in parts.items()
        }
        predicted = predict(self, everything)
        for split, parts in self.datasets.items():
            self.scores[split].append(np.stack([predicted[f"{split} / {name}"].scores.numpy() for name in parts]))
        self.seconds_evaluating += time.perf_counter() - started
        options = self.options
        rates = [RATES.index(rate) for rate in options.select_rates or []]
        metric = "mae" if options.select_metric == LAST else options.select_metric
        labels = next(iter(self.datasets["valid"].values())).split.labels.numpy()
        values = epoch_values(self.scores["valid"][-1][None][:, rates], labels, metric)
        metrics = {f"{metric_key_prefix}_{metric}": float(values[0])}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def run_cell(cell: Cell, study: Options, folder: Path, work: Path) -> Record:
    """Train a cell, or evaluate the best possible predictor.

    Args:
        cell: the cell to run.
        study: options that all cells share.
        folder: the study's folder, which holds the converted data.
        work: folder for checkpoints, removed at the end.
    """
    options = cell.options(study) if not cell.is_best_possible else Cell((), cell.seed).options(study)
    shutil.rmtree(work, ignore_errors=True)  # leftovers of a killed attempt
    work.mkdir(parents=True)
    try:
        with redirect_stdout(StringIO()):  # already printed when the study was opened
            setup = Setup.build(options, RunFolder(folder))
        return _best_possible(setup) if cell.is_best_possible else _train(setup, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _train(setup: Setup, folder: Path) -> Record:
    options, model = setup.options, setup.model
    conditions, patterns = table_conditions(model.config.modalities), pattern_conditions()
    datasets = {
        split: {condition.name: setup.dataset(split, condition) for condition in conditions}
        for split in ("valid", "test")
    }
    cell_trainer = partial(CellTrainer, datasets=datasets)
    valid = list(datasets["valid"].values())
    trainer = make_trainer(cell_trainer, model, setup.collator, setup.dataset("train"), valid, options, folder)
    _reset_peak_memory()
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started - trainer.seconds_evaluating
    peak = _peak_memory()
    final = {condition.name: setup.dataset("test", condition) for condition in patterns} | datasets["test"]
    timer = time.perf_counter()
    predicted = predict(trainer, final)
    samples_a_second = sum(map(len, final.values())) / (time.perf_counter() - timer)
    labels = {name: split.labels for name, split in setup.splits.items()}
    text = [p.numel() for name, p in model.named_parameters() if "text_encoder" in name]
    facts = {
        "conditions": [condition.name for condition in conditions],
        "pattern_conditions": [condition.name for condition in patterns],
        "rates": list(RATES),
        "modalities": list(model.config.modalities),
        "data": {
            "name": setup.data_name,
            "synthetic": setup.synthetic is not None,
            "sizes": {name: len(split) for name, split in setup.splits.items()},
        },
        "value": float(epoch_values(trainer.scores["valid"][-1][None], labels["valid"].numpy(), "mae")[0]),
        "seconds_an_epoch": seconds / options.epochs,
        "samples_a_second": samples_a_second,
        "peak_memory": peak,
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_parameters": sum(text),
        "diagnostics": {name: diagnose(answer, labels["test"], SENTIMENT) for name, answer in predicted.items()},
        "routing": routing([predicted[condition.name] for condition in intra_modal()], model.config),
        "machine": machine(),
        "versions": {name: version(name) for name in ("modx", "torch", "transformers")},
        "options": asdict(options),
    }
    arrays = {split: np.stack(scores) for split, scores in trainer.scores.items()}
    arrays["patterns"] = np.stack([predicted[condition.name].scores.numpy() for condition in patterns])
    arrays |= {f"labels_{name}": values.numpy() for name, values in labels.items()}
    return Record(facts, arrays)


def _best_possible(setup: Setup) -> Record:
    best = setup.best_possible
    assert best is not None
    conditions = table_conditions(setup.model.config.modalities) + pattern_conditions()
    metrics = {condition.name: best(setup.dataset("test", condition)) for condition in conditions}
    return Record({"best_possible": metrics, "value": metrics[conditions[0].name]["mae"]}, {})


def _reset_peak_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: reset the peak resident set size


def _peak_memory() -> float:
    """Return peak bytes: allocated on the GPU, or the process's peak resident set, data and libraries included."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
