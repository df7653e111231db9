"""The model card of a run: model, data, metrics, and how to use the model."""

import math
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from derl.data.files import write_file
from derl.evaluate.task import Metrics
from derl.evaluate.tasks import reported_task
from derl.model.config import DerlConfig
from derl.report.tables import (
    bullets,
    headline,
    inter_modal_table,
    intra_modal_table,
    markdown,
    notes,
    origin,
    warnings,
)

HUB = {  # our name -> the Hub's identifier and a display name
    "mae": ("mae", "MAE"),
    "rmse": ("rmse", "RMSE"),
    "corr": ("pearsonr", "Corr"),
    "r2": ("r_squared", "R2"),
    "acc2_has0": ("accuracy", "Acc-2, negative against non-negative"),
    "acc2_non0": ("accuracy", "Acc-2, negative against positive"),
    "f1_has0": ("f1", "F1, negative against non-negative"),
    "f1_non0": ("f1", "F1, negative against positive"),
    "acc5": ("accuracy", "Acc-5"),
    "acc7": ("accuracy", "Acc-7"),
    "accuracy": ("accuracy", "accuracy"),
    "f1_macro": ("f1", "macro F1"),
    "f1_weighted": ("f1", "weighted F1"),
}
TAGS = ["multimodal", "missing-modalities", "mixture-of-experts"]


def write_card(results: dict[str, Any], config: DerlConfig, folder: Path) -> None:
    """Write a run's model card into the model's folder, atomically.

    Args:
        results: results of the run, see :func:`derl.report.write.write_report`.
        config: the model's configuration.
        folder: the model's folder.
    """
    write_file(folder / "README.md", f"{model_card(results, config)}\n".encode())


def model_card(results: dict[str, Any], config: DerlConfig) -> ModelCard:
    """Return a card with the run's metrics in its metadata and its tables."""
    synthetic, encoder = results["data"]["synthetic"], results["options"]["text_encoder"]
    data = ModelCardData(
        library_name="modx",
        license="apache-2.0" if synthetic else None,  # for real data, the publisher has to choose
        base_model=None if encoder in (None, "words") or Path(encoder).exists() else encoder,
        tags=[*TAGS, *(["sentiment-analysis"] if config.sentiment else []), *(["synthetic-data"] if synthetic else [])],
        model_name=_title(results),
        eval_results=[
            *_eval_results(results, "complete input", results["intra_modal"]["rows"][results["model"]][0]),
            *_eval_results(
                results, f"{_pattern(results)}, average", results["intra_modal"]["average"][results["model"]]
            ),
        ],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(results, config)}")


def _eval_results(results: dict[str, Any], condition: str, metrics: Metrics) -> list[EvalResult]:
    name, task = results["data"]["name"], reported_task(results)
    return [
        EvalResult(
            task_type="other",
            task_name=task.what,
            dataset_type=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
            dataset_name=name,
            dataset_config=condition,
            dataset_split="test",
            metric_type=HUB[metric][0],
            metric_name=HUB[metric][1],
            metric_value=float(format(value, task.card)),
        )
        for metric, value in metrics.items()
        if math.isfinite(value)
    ]


def _pattern(results: dict[str, Any]) -> str:
    rates = results["intra_modal"]["rates"]
    return f"{results['pattern']} missing at r = {rates[0]:g}, {rates[1]:g} .. {rates[-1]:g}"


def _title(results: dict[str, Any]) -> str:
    return f"{results['model']} on {results['data']['name']}"


def _text(results: dict[str, Any], config: DerlConfig) -> str:
    synthetic, task = results["data"]["synthetic"], reported_task(results)
    limits = [
        "The model is fitted to the language, speakers and features of its training data: frames have to come from the "
        "same feature extractor.",
        "A missing modality costs accuracy; the tables show how much.",
    ]
    if synthetic:
        limits.insert(0, "Trained on SYNTHETIC data with a made-up vocabulary: do not use it on real text.")
    parts = [
        f"# {_title(results)}",
        headline(results),
        f"{task.does}. Input, any part of which may be missing: {', '.join(config.modalities)}. Made with modx, "
        "mixture-of-disentangled-experts layers for PyTorch.",
        "## How to use it",
        "With modx's `examples` folder on the Python path, and `.` for this folder:",
        _example(config, synthetic),
        f"The answer holds {task.holds} and each modality's share of the fusion's router weights. It also says how far "
        "to trust it, calibrated for what is missing from the sample. Every modality can be left out. Importing `derl` "
        "also registers the model with `AutoConfig`, `AutoModel` and `AutoProcessor`.",
        _inputs(config),
        "## How well it does",
        *(markdown(table) for table in (intra_modal_table(results), inter_modal_table(results))),
        bullets([*notes(results), *warnings(results)]),
        "## Limits",
        bullets(limits),
        "## How it was made",
        bullets(origin(results)),
    ]
    return "\n\n".join(parts)


def _example(config: DerlConfig, synthetic: bool) -> str:
    words = "lovely captain great ship storm" if synthetic else "I liked it"
    arguments = ", ".join(
        f'text="{words}"'
        if name == "text"
        else f"{name}=np.zeros(({config.typical_lengths[name]}, {config.input_dims[name]}))"
        for name in config.modalities
    )
    return (
        "```python\nimport numpy as np\nfrom derl import Predictor\n\n"
        f'predictor = Predictor.from_pretrained(".")\nprint(predictor.predict({arguments}))\n```'
    )


def _inputs(config: DerlConfig) -> str:
    lines = ["| modality | what | longest | median in training |", "| --- | --- | ---: | ---: |"]
    for name in config.modalities:
        what = "a string" if name == "text" else f"frames of {config.input_dims[name]} numbers"
        lines.append(f"| {name} | {what} | {config.max_lengths[name]} | {config.typical_lengths[name]} |")
    return "\n".join(lines) + "\n\nLonger input is truncated at its end."
