"""Compare a text encoder with int8 and float32 weights: ``python benchmarks/int8_encoder.py MODEL``.

MODEL is a model of ``examples/derl_mosi.py`` or, with ``--untrained``, a Hugging Face text encoder around which DERL is
built at the paper's sizes. ``examples/derl_export.py`` exports it to ONNX, with and without ``--int8``.

Size is the file size. Time is onnxruntime's on a CPU, with 50 tokens and audio and vision of maximum length; both files
take turns, and ratios are between the two calls of a round. Scores are of both files on the test split of MODEL's
training data, synthetic or ``--data``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from record import ROOT, cpu, summary

sys.path.append(str(ROOT / "examples"))  # as pytest's pythonpath does

from transformers import AutoTokenizer

from derl.data.collate import Collator
from derl.data.load import load_data
from derl.data.missing import MissingDataset
from derl.data.split import Split
from derl.data.synthetic import make_synthetic
from derl.evaluate.sentiment import SENTIMENT
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.predict.export import export

BATCH_SIZES = (1, 16)
RATES = (0.0, 0.5)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def make_inputs(config: DerlConfig, batch_size: int) -> dict[str, Any]:
    """Return random input of full length, with nothing missing."""
    generator = torch.Generator().manual_seed(0)
    batch = {}
    for name in config.modalities:
        shape = batch_size, config.max_lengths[name]
        batch[name] = (
            torch.randint(config.text_config.vocab_size, shape, generator=generator)
            if name == "text"
            else torch.randn(*shape, config.input_dims[name], generator=generator)
        )
        batch[f"{name}_mask"] = batch[f"{name}_keep"] = torch.ones(shape, dtype=torch.bool)
    return {name: part.numpy() for name, part in batch.items()}


def time_both(sessions: dict[str, Any], inputs: dict[str, Any], rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for index in range(rounds + 1):
        for name in list(sessions) if index % 2 else reversed(sessions):
            start = time.perf_counter()
            sessions[name].run(["prediction"], inputs)
            seconds[name].append(time.perf_counter() - start)
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first warms up
    ratio = [f / q for f, q in zip(seconds["float32"], seconds["int8"], strict=True)]
    return {name: summary(values) for name, values in seconds.items()} | {"float32 / int8": summary(ratio)}


def score_both(sessions: dict[str, Any], config: DerlConfig, split: Split, tokenizer: Any) -> dict[str, Any]:
    """Return metrics of both files on a split at several missing rates, and the difference of their scores."""
    found: dict[str, Any] = {}
    for rate in RATES:
        dataset = MissingDataset(
            split,
            tokenizer,
            max_lengths=config.max_lengths,
            modalities=config.modalities,
            seed=0,
            rate=rate,
        )
        scores: dict[str, list[torch.Tensor]] = {name: [] for name in sessions}
        for start in range(0, len(dataset), 49):
            rows = range(start, min(start + 49, len(dataset)))
            batch = Collator(tokenizer.pad_token_id)([dataset[row] for row in rows])
            flat = {
                name + suffix: batch[part][name].numpy()
                for name in config.modalities
                for suffix, part in (("", "inputs"), ("_mask", "masks"), ("_keep", "keep"))
            }
            for name, session in sessions.items():
                scores[name].append(torch.from_numpy(session.run(["prediction"], flat)[0]))
        whole = {name: torch.cat(parts) for name, parts in scores.items()}
        found[f"r={rate}"] = {name: SENTIMENT.measure(part, dataset.split.labels) for name, part in whole.items()}
        distance = (whole["int8"] - whole["float32"]).abs()
        found[f"r={rate}"]["distance"] = {"mean": distance.mean().item(), "largest": distance.max().item()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--untrained", action="store_true", help="MODEL is a text encoder alone")
    parser.add_argument("--data", help="MMSA-layout pickle that MODEL was trained on; left out: the synthetic data")
    parser.add_argument("--rounds", type=int, default=30, help="timed calls of each file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.model)
        if options.untrained:
            folder = Path(scratch) / "model"
            DerlModel.from_text_pretrained(options.model, DerlConfig()).save_pretrained(folder)
        paths = {name: Path(scratch) / f"{name}.onnx" for name in ("float32", "int8")}
        for name, path in paths.items():
            print(export(folder, "onnx", path, int8=name == "int8"), file=sys.stderr)
        sessions = {name: open_session(path) for name, path in paths.items()}
        config = DerlConfig.from_pretrained(folder)
        scores = None
        if not options.untrained:
            cache = Path(scratch) / "data.safetensors"
            splits = make_synthetic().splits if options.data is None else load_data(options.data, cache)
            scores = score_both(sessions, config, splits["test"], AutoTokenizer.from_pretrained(folder))
        results = {
            "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
            "onnxruntime": onnxruntime.__version__,
            "command": " ".join(["python", *sys.argv]),
            "mebibytes": {name: path.stat().st_size / 2**20 for name, path in paths.items()},
            "seconds": {
                f"batch {size}": time_both(sessions, make_inputs(config, size), options.rounds) for size in BATCH_SIZES
            },
            "scores": scores,
        }
    for times in results["seconds"].values():
        for values in times.values():
            del values["all"]
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
