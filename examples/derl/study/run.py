"""Train one cell, and keep every score it gives on the way."""

import resource
import shutil
import time
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from derl.data.missing import MissingDataset
from derl.evaluate.conditions import RATES, Condition, intra_modal, pattern_conditions, table_conditions
from derl.evaluate.diagnostics import diagnose
from derl.evaluate.protocol import routing
from derl.evaluate.scores import predict
from derl.study.cell import Cell
from derl.study.judge import epoch_values
from derl.study.record import Record
from derl.train.options import Options
from derl.train.provenance import machine
from derl.train.recipes import LAST
from derl.train.run import RunFolder
from derl.train.setup import Setup
from derl.train.trainer import SentimentTrainer, make_trainer

SEPARATOR = " / "  # between a split and a condition


class CellTrainer(SentimentTrainer):
    """A trainer that, after every epoch, judges validation and test split under all conditions and keeps the scores.

    A checkpoint is chosen on the validation split alone. The test scores of the other epochs are kept for the
    protocol that chooses on the test split, and for showing what the choice costs.
    """

    setup: Setup
    conditions: list[Condition]
    datasets: dict[str, MissingDataset]
    scores: dict[str, list[np.ndarray]]
    seconds_judging: list[float]

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Score both splits; return the validation metric that chooses the checkpoint."""
        started = time.perf_counter()
        predicted = predict(self, self.datasets)
        for split in ("valid", "test"):
            names = [f"{split}{SEPARATOR}{condition.name}" for condition in self.conditions]
            self.scores.setdefault(split, []).append(torch.stack([predicted[name].scores for name in names]).numpy())
        self.seconds_judging.append(time.perf_counter() - started)
        options = self.setup.options
        rates = [RATES.index(rate) for rate in options.select_rates or []]
        metric = "mae" if options.select_metric == LAST else options.select_metric
        values = epoch_values(
            self.scores["valid"][-1][None][:, rates], self.setup.splits["valid"].labels.numpy(), metric
        )
        metrics = {f"{metric_key_prefix}_{metric}": float(values[0])}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def run_cell(cell: Cell, study: Options, folder: Path, work: Path) -> Record:
    """Train a cell; or, for the best possible predictor, judge it.

    Args:
        cell: what to run.
        study: the options that all cells share.
        folder: of the study, which holds the converted data.
        work: for checkpoints; it is removed at the end.
    """
    options = cell.options(study) if not cell.is_best_possible else Cell((), cell.seed).options(study)
    shutil.rmtree(work, ignore_errors=True)  # a killed attempt's
    work.mkdir(parents=True)
    try:
        with redirect_stdout(StringIO()):  # what was converted and repaired is said once, when the study opens
            setup = Setup.build(options, RunFolder(folder))
        return _best_possible(setup) if cell.is_best_possible else _train(setup, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _train(setup: Setup, folder: Path) -> Record:
    options, model = setup.options, setup.model
    valid = [setup.dataset("valid", Condition("r=0.5", rate=0.5))]  # CellTrainer takes its own
    trainer = make_trainer(CellTrainer, model, setup.collator, setup.dataset("train"), valid, options, folder)
    trainer.setup, trainer.conditions = setup, table_conditions(model.config.modalities)
    trainer.datasets = {
        f"{split}{SEPARATOR}{condition.name}": setup.dataset(split, condition)
        for split in ("valid", "test")
        for condition in trainer.conditions
    }
    trainer.scores, trainer.seconds_judging = {}, []
    _reset_peak_memory()
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started - sum(trainer.seconds_judging)
    peak = _peak_memory()
    patterns = pattern_conditions()
    datasets = {condition.name: setup.dataset("test", condition) for condition in patterns + trainer.conditions}
    timer = time.perf_counter()
    predicted = predict(trainer, datasets)
    judged = sum(map(len, datasets.values())) / (time.perf_counter() - timer)
    labels = {name: split.labels for name, split in setup.splits.items()}
    text = [p.numel() for name, p in model.named_parameters() if "text_encoder" in name]
    facts = {
        "conditions": [condition.name for condition in trainer.conditions],
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
        "samples_a_second": judged,
        "peak_memory": peak,
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_parameters": sum(text),
        "diagnostics": {name: diagnose(answer, labels["test"]) for name, answer in predicted.items()},
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
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the largest resident set so far


def _peak_memory() -> float:
    """Bytes: allocated on the GPU, or the process's largest resident set, data and libraries included."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
