"""Time one training step of DERL, modx against plain layers: ``python benchmarks/training_step.py``.

Forward, loss, backward and AdamW at the paper's sizes for CMU-MOSI, batch 64, without the text encoder: the input is
its states. Half of the samples drop frames, each modality at a rate from U(0, 1); nothing is padded.

Time: the providers take turns in one process, on one thread and on all; ratios are between the two steps of a round.
The matmuls of modx's step, run alone on operands of the same shapes, take turns with them: no code around them can be
faster. With ``--data`` and ``--text_encoder``, steps with a text encoder on real CMU-MOSI are timed, too.

Memory (Linux): in its own process, a provider creates parameters, optimizer and inputs, takes a warm-up step on two
samples, which creates the optimizer's state, and frees the gradients. The resident memory at that point is subtracted
from the peak (``ru_maxrss``) after one step on the whole batch. The result includes gradients.
"""

import argparse
import gc
import math
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # as pytest's pythonpath does

from transformers import BertConfig

from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from matmuls import Matmuls
from modx.missing import drop_frames, erase
from plain_derl import PlainDerl
from record import cpu, summary

BATCH_SIZE = 64
PROVIDERS = ("plain", "modx")
MATMULS = "matmuls of modx alone"
SHARE = "matmuls / modx"
RESULTS = Path(__file__).parent / "results"

Features = dict[str, Tensor]
Batch = dict[str, Any]


class StatesModel(DerlModel):
    """DerlModel without its text encoder: text is states ``(B, L, 768)``; dropped ones become zeros."""

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        del self.text_encoder

    def check(self, *batch: Any) -> None:
        """Accept text that is not token ids."""

    def corrupt(self, inputs: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> Features:
        return {name: erase(inputs[name], keep[name]) for name in self.config.modalities}

    def embed(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Features:
        return {name: inputs[name] for name in self.config.modalities}


class TrainingStep:
    """A provider's model and its optimizer; a call takes one step on a batch."""

    def __init__(self, provider: str) -> None:
        torch.manual_seed(0)
        config = make_config()
        self.model: nn.Module = (
            StatesModel(config).train() if provider == "modx" else PlainDerl(config, frame_dims(config))
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def loss(self, batch: Batch) -> Tensor:
        output = self.model(**batch)
        return output if isinstance(output, Tensor) else output.loss

    def __call__(self, batch: Batch) -> None:
        self.optimizer.zero_grad()
        self.loss(batch).backward()
        self.optimizer.step()


def make_config() -> DerlConfig:
    """Return MOSI's sizes, with a text encoder of BERT-base's width and no layers, which is removed later."""
    return DerlConfig(text_config=BertConfig(vocab_size=1, num_hidden_layers=0, pad_token_id=0))


def frame_dims(config: DerlConfig) -> dict[str, int]:
    return {"text": config.text_config.hidden_size, **config.input_dims}


def make_batch(batch_size: int = BATCH_SIZE, config: DerlConfig | None = None) -> Batch:
    """Return random frames of full length; every second sample drops some."""
    config, generator = config or make_config(), torch.Generator().manual_seed(0)
    batch: Batch = {"inputs": {}, "masks": {}, "keep": {}, "labels": 3 * torch.randn(batch_size, generator=generator)}
    for name, dim in frame_dims(config).items():
        length = config.max_lengths[name]
        rates = torch.rand(batch_size, generator=generator)
        rates[1::2] = 0
        batch["inputs"][name] = torch.randn(batch_size, length, dim, generator=generator)
        batch["masks"][name] = torch.ones(batch_size, length, dtype=torch.bool)
        batch["keep"][name] = drop_frames(batch["masks"][name], rates, generator=generator)
    return batch


def make_agreeing_steps(batch: Batch) -> dict[str, TrainingStep]:
    """Return both providers with the same parameters, after asserting that losses and gradients agree."""
    steps = {provider: TrainingStep(provider) for provider in PROVIDERS}
    plain, modx = steps["plain"].model, steps["modx"].model
    plain.load_from(modx)
    losses = {provider: step.loss(batch) for provider, step in steps.items()}
    torch.testing.assert_close(losses["modx"], losses["plain"], rtol=1e-5, atol=0)
    for loss in losses.values():
        loss.backward()
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    others = plain.translate({name: parameter.grad for name, parameter in modx.named_parameters()})
    assert gradients.keys() == others.keys()
    # the key norms' shifts have no gradient, as a softmax sees no offset: what is there is rounding
    rounding = 1e-7 * torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    for name, gradient in gradients.items():
        error = (others[name] - gradient).norm()
        assert error <= 1e-4 * gradient.norm() + rounding, f"{name}: gradients differ by {error / gradient.norm():.1e}"
    return steps


def measure_seconds(steps: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return wall and CPU seconds of every call, round by round, in alternating order."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in steps}
    for step in steps.values():
        step()
    for index in range(rounds):
        for name in steps if index % 2 else reversed(steps):
            wall, cpu_time = time.perf_counter(), time.process_time()
            steps[name]()
            seconds[name]["wall"].append(time.perf_counter() - wall)
            seconds[name]["cpu"].append(time.process_time() - cpu_time)
    return seconds


def measure_steps(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time a step of each provider, and the matmuls of modx's step alone."""
    batch = make_batch()
    steps = make_agreeing_steps(batch)
    with Matmuls() as matmuls:
        steps["modx"](batch)
    calls: dict[str, Callable[[], Any]] = {name: partial(step, batch) for name, step in steps.items()}
    return measure_seconds(calls | {MATMULS: matmuls}, rounds)


def measure_own_memory(provider: str) -> int:
    """Return the bytes that one step adds to this process at its peak."""
    step, batch, small = TrainingStep(provider), make_batch(), make_batch(2)
    step(small)
    step.optimizer.zero_grad()
    gc.collect()
    resident, peak_before = psutil.Process().memory_info().rss, _peak()
    step(batch)
    assert _peak() > peak_before, "the peak was reached before the step"
    return _peak() - resident


def measure_memory(repeats: int) -> dict[str, list[int]]:
    """Return the bytes of each provider's step, each in a fresh process. Call this while this process is small."""
    command = [sys.executable, __file__, "--memory_of"]
    return {
        provider: [
            int(subprocess.run([*command, provider], check=True, capture_output=True, text=True).stdout)
            for _ in range(repeats)
        ]
        for provider in PROVIDERS
    }


def summarize(seconds: dict[str, dict[str, list[float]]], baseline: str) -> dict[str, Any]:
    """Return the median and quartiles of the times, and of the ratios to modx within a round."""
    return {
        clock: {name: summary(values[clock]) for name, values in seconds.items()}
        | {f"{baseline} / modx": summary(ratios(seconds, baseline, "modx", clock))}
        | ({SHARE: summary(ratios(seconds, MATMULS, "modx", clock))} if MATMULS in seconds else {})
        for clock in ("wall", "cpu")
    }


def ratios(seconds: dict[str, dict[str, list[float]]], over: str, under: str, clock: str) -> list[float]:
    """Return the ratios of two calls' times within a round."""
    return [a / b for a, b in zip(seconds[over][clock], seconds[under][clock], strict=True)]


def to_markdown(results: dict[str, Any]) -> str:
    """Return the tables of all measurements."""
    lines = [
        f"One training step of DERL without the text encoder, CMU-MOSI's sizes, batch {BATCH_SIZE}: median and "
        "quartiles. Ratios and shares are within a round.",
        "",
        "| threads | | wall, s | CPU, s |",
        "|---:|---|---|---|",
    ]
    for threads, times in results["seconds"].items():
        lines += _rows(threads, times)
    memory = results["peak_mebibytes"]
    lines += ["", "| | peak memory, MiB |", "|---|---|"]
    lines += [f"| {name} | {spread(memory[name])} |" for name in PROVIDERS]
    lines += [f"| plain / modx | {results['memory_ratio']:.1f} |", ""]
    if "real_step" in results:
        lines += [
            f"One training step with its text encoder ({results['text_encoder']}) on real CMU-MOSI, batch "
            f"{BATCH_SIZE}: `padded` runs the encoder once, on the whole batch, and AdamW parameter by parameter.",
            "",
            "| threads | | wall, s | CPU, s |",
            "|---:|---|---|---|",
        ]
        lines += [*_rows(results["machine"]["threads"], results["real_step"]), ""]
    machine = results["machine"]
    return "\n".join(
        [*lines, f"{machine['cpu']}, {machine['cores']} cores; torch {results['torch']}; `{results['command']}`", ""]
    )


def _rows(threads: int, times: dict[str, dict[str, Any]]) -> list[str]:
    wall, cpu_time = times["wall"], times["cpu"]
    return [f"| {threads} | {name} | {spread(wall[name])} | {spread(cpu_time[name])} |" for name in wall]


def spread(found: dict[str, Any]) -> str:
    """Return a median and its quartiles, with as many digits as the median needs."""
    low, high = found["quartiles"]
    digits = max(0, 2 - math.floor(math.log10(found["median"])))
    return f"{found['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each provider")
    parser.add_argument("--repeats", type=int, default=5, help="processes that measure the memory of each provider")
    parser.add_argument("--data", help="CMU-MOSI, as for derl_mosi.py: also time steps with a text encoder on it")
    parser.add_argument("--text_encoder", help="folder or name of that encoder")
    parser.add_argument("--memory_of", choices=PROVIDERS, help="print the bytes one step adds to this process")
    options = parser.parse_args()
    if (options.data is None) != (options.text_encoder is None):
        parser.error("--data and --text_encoder are given together")
    if options.memory_of is not None:
        print(measure_own_memory(options.memory_of))
        return
    paths = (options.data, options.text_encoder)
    memory, most = measure_memory(options.repeats), torch.get_num_threads()
    results: dict[str, Any] = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": most},
        "torch": torch.__version__,
        "command": shlex.join(["python", *(Path(word).name if word in paths else word for word in sys.argv)]),
        "seconds": {},
        "peak_mebibytes": {name: summary([value / 2**20 for value in values]) for name, values in memory.items()},
        "memory_ratio": statistics.median(memory["plain"]) / statistics.median(memory["modx"]),
    }
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        results["seconds"][threads] = summarize(measure_steps(options.rounds), "plain")
    if options.data is not None:
        from real_step import make_real_steps  # its imports would add to the memory of the steps above

        steps = make_real_steps(options.data, options.text_encoder)
        results["real_step"] = summarize(measure_seconds(steps, options.rounds), "padded")
        results["text_encoder"] = Path(options.text_encoder).name
    RESULTS.mkdir(exist_ok=True)
    table = to_markdown(results)
    (RESULTS / "training_step.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
