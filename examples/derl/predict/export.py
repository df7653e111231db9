"""Export a saved model for torch.export or ONNX; the file runs without modx, transformers and the examples."""

import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from derl.data.split import DataError
from derl.model.config import DerlConfig
from derl.model.saved import explained, model_folder, read_model
from derl.model.sentiment import SentimentModel

SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}
OPSET = 23  # the newest that torch's exporter supports; the first with attention as one operator
ONNX_LIMIT = 2**31  # bytes in a protobuf
TOLERANCE = 1e-4

Batch = dict[str, Tensor]


class ExportError(DataError):
    """The export is impossible, or its result is wrong."""


class Deployed(nn.Module):
    """Wrap a model in evaluation mode so that it maps one dict of tensors to another.

    For every modality m, the input holds ``m``, ``m_mask`` and ``m_keep``: the ``inputs``, ``masks`` and ``keep`` of
    :meth:`derl.model.derl.DerlModel.forward`. The output holds ``prediction`` and, if the model has routers, their
    weights: ``fusion_weights``, and ``expert_weights_m`` for every modality m.
    """

    def __init__(self, model: SentimentModel) -> None:
        super().__init__()
        self.model = model.eval()
        model.drop_training_parts()

    def forward(self, batch: Batch) -> Batch:
        names = self.model.config.modalities
        parts = ({name: batch[name + suffix] for name in names} for suffix in ("", "_mask", "_keep"))
        output = self.model(*parts)
        given = {"prediction": output.prediction, "fusion_weights": output.fusion_weights}
        given |= {f"expert_weights_{name}": part for name, part in (output.expert_weights or {}).items()}
        return {name: part for name, part in given.items() if part is not None}


def export(model_path: Path, target: str, out: Path, *, int8: bool = False, overwrite: bool = False) -> str:
    """Export a model to the file ``out``, atomically.

    Args:
        model_path: folder of a run or of its model.
        target: "torch" or "onnx".
        out: the file to write.
        int8: quantize the text encoder ("onnx" only). The error of the answers is reported, but not limited.
        overwrite: replace ``out`` if it exists.

    Returns:
        A one-line summary of the file.

    Raises:
        DataError: There is no model.
        ExportError: ``out`` cannot be written, or the exported model gives different answers.
    """
    _check_out(out, target, overwrite)
    if target == "onnx":
        _check_onnx()
    elif int8:
        raise ExportError("--int8 expected --to onnx, got --to torch; use --to onnx, or leave out --int8.")
    folder = model_folder(model_path)
    with explained(folder):
        read = read_model(folder)
    if not read.exports:
        raise ExportError(
            f"{folder}: expected a model that can be exported, found {read.label}; ask it with derl_predict.py."
        )
    model = Deployed(read)
    if target == "onnx" and (size := sum(part.nbytes for part in model.state_dict().values())) >= ONNX_LIMIT:
        raise ExportError(
            f"{folder}: expected less than {ONNX_LIMIT / 2**30:.0f} GiB of parameters for one ONNX file, found "
            f"{size / 2**30:.1f}; use --to torch."
        )
    config = model.model.config
    batches = list(sample_batches(config))
    program = torch.export.export(model, (batches[0],), dynamic_shapes=(dynamic_shapes(config),))
    try:
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            draft = Path(scratch) / out.name
            run = WRITERS[target](program, model, batches[0], draft)
            worst = _worst_difference(run, model, batches)
            if not worst <= TOLERANCE:
                raise ExportError(
                    f"{out}: expected answers within {TOLERANCE} of the model's, got {worst:.1e}; nothing is written; "
                    "use the package versions in constraints.txt."
                )
            if int8:
                worst = _worst_difference(_quantize(draft, list(model(batches[0]))), model, batches)
            draft.replace(out)
    except OSError as error:
        raise ExportError(f"{out}: expected a file that can be written, found {error.strerror}.") from error
    size = out.stat().st_size / 2**20
    return f"{out}: {size:.1f} MiB; answers within {worst:.0e} of {folder}'s on {len(batches)} batches"


def dynamic_shapes(config: DerlConfig) -> dict[str, dict[int, Any]]:
    """Return dynamic shapes: any batch size, and any length per modality up to the model's maximum."""
    batch = torch.export.Dim("batch", min=1)
    shapes = {}
    for name in config.modalities:
        longest = config.max_lengths[name]
        length = torch.export.Dim(re.sub(r"\W", "_", f"{name}_length"), min=1, max=longest) if longest > 1 else None
        shapes |= {name + suffix: {0: batch, 1: length} for suffix in ("", "_mask", "_keep")}
    return shapes


def sample_batches(config: DerlConfig) -> Iterator[Batch]:
    """Yield random batches: one to trace, the shortest, the longest, and one per missing modality."""
    generator = torch.Generator().manual_seed(0)

    def batch(size: int, lengths: Callable[[int], int], absent: str | None = None) -> Batch:
        parts = {}
        for index, name in enumerate(config.modalities):
            shape = size, min(lengths(index), config.max_lengths[name])
            if name == "text":
                parts[name] = torch.randint(config.text_config.vocab_size, shape, generator=generator)
            else:
                parts[name] = torch.randn(*shape, config.input_dims[name], generator=generator)
            parts[f"{name}_mask"] = torch.rand(shape, generator=generator) > 0.2
            parts[f"{name}_mask"][0] = name != absent  # absent from the first sample, dropped in the others
            parts[f"{name}_keep"] = torch.rand(shape, generator=generator) > (1 if name == absent else 0.5)
        return parts

    yield batch(2, lambda index: 5 + index)
    yield batch(1, lambda index: 1)
    yield batch(3, lambda index: max(config.max_lengths.values()))
    for name in config.modalities:
        yield batch(2, lambda index: 9 - index, absent=name)


def _write_torch(
    program: torch.export.ExportedProgram, model: Deployed, batch: Batch, path: Path
) -> Callable[[Batch], Batch]:
    torch.export.save(program, path)
    run: Callable[[Batch], Batch] = torch.export.load(path).module()
    return run


def _write_onnx(
    program: torch.export.ExportedProgram, model: Deployed, batch: Batch, path: Path
) -> Callable[[Batch], Batch]:
    outputs = list(model(batch))
    axes: dict[str, Any] = dict.fromkeys(batch)  # each axis is named at its first use
    axes |= {name: {1: f"{name}_length"} for name in model.model.config.modalities}
    axes[next(iter(batch))][0] = "batch"
    with _quiet():
        torch.onnx.export(
            program,
            f=path,
            input_names=list(batch),
            output_names=outputs,
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            dynamo=True,
        )
    return _open_onnx(path, outputs)


def _open_onnx(path: Path, outputs: list[str]) -> Callable[[Batch], Batch]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(parts: Batch) -> Batch:
        answers = session.run(outputs, {name: part.numpy() for name, part in parts.items()})
        return {name: torch.from_numpy(answer) for name, answer in zip(outputs, answers, strict=True)}

    return run


def _quantize(path: Path, outputs: list[str]) -> Callable[[Batch], Batch]:
    """Rewrite a file with the text encoder's weights in int8 and dynamically quantized activations."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = [
        node.name
        for node in onnx.load(path).graph.node
        if node.op_type == "MatMul" and any("model.text_encoder" in entry.value for entry in node.metadata_props)
    ]
    if not nodes:
        raise ExportError("--int8 expected a model with a text encoder, found no matmul of one; leave out --int8.")
    with _quiet():
        quantize_dynamic(
            path,
            path,
            nodes_to_quantize=nodes,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True},
        )
    return _open_onnx(path, outputs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' internal warnings and logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning
            )  # raised inside torch
            yield
    finally:
        logging.disable(before)


WRITERS = {"torch": _write_torch, "onnx": _write_onnx}


def _worst_difference(run: Callable[[Batch], Batch], model: Deployed, batches: list[Batch]) -> float:
    """Return the largest difference between two models' answers; NaN if either holds one."""
    with torch.inference_mode():
        pairs = [(run(batch), model(batch)) for batch in batches]
    worst = torch.stack([(got[name] - part).abs().max() for got, want in pairs for name, part in want.items()]).max()
    return worst.item()


def _check_out(out: Path, target: str, overwrite: bool) -> None:
    if out.suffix != SUFFIXES[target]:
        raise ExportError(f"{out}: expected a name that ends in {SUFFIXES[target]} for --to {target}; rename it.")
    if out.is_dir() or (out.exists() and not overwrite):
        raise ExportError(f"{out}: expected a new file, found one that exists; choose another, or pass --overwrite.")
    if not out.parent.is_dir():
        raise ExportError(f"{out}: expected a file in a folder that exists, {out.parent} does not; create it.")


def _check_onnx() -> None:
    absent = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if absent:
        raise ExportError(
            f"--to onnx: expected onnx, onnxscript and onnxruntime to be installed, lacks {', '.join(absent)}; "
            "pip install 'modx[deploy]'."
        )
