"""SentimentModel: what DERL and its plain baseline share, before and after what makes them differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from derl.data.split import DataError
from derl.model.by_length import encode_by_length
from derl.model.config import DerlConfig
from modx.missing import erase

Features = dict[str, Tensor]
_CHUNK = 256  # samples
_ALIGNMENT = 64  # bytes; where PyTorch's own allocator puts tensors


class Rows(Protocol):
    """A tensor `(n, L, D)`, or what answers with one `(L, D)` after another."""

    def __getitem__(self, index: int) -> Tensor: ...


@dataclass
class DerlOutput(ModelOutput):
    """What DERL answers; the three losses and their weighted sum (eq. 18) where labels are given.

    Attributes:
        loss: scalar; in evaluation the task's alone.
        task_loss: scalar.
        orthogonality_loss, reconstruction_loss: scalars, in training only (eq. 5, 12).
        consistency_loss: scalar, in training only, where the complete input is scored too.
        prediction: ``(B,)``, the sentiment score.
        expert_weights: for every modality ``(B, N, P + S)``: HED's router (eq. 3).
        fusion_weights: ``(B, N, 2 M)``: the private views of all modalities, then the shared ones (eq. 14).
    """

    loss: Tensor | None = None
    task_loss: Tensor | None = None
    orthogonality_loss: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    consistency_loss: Tensor | None = None
    prediction: Tensor | None = None
    expert_weights: Features | None = None
    fusion_weights: Tensor | None = None


class SentimentModel(PreTrainedModel):
    """What DERL and its plain baseline share: a fine-tuned text encoder, and how input goes missing.

    A model of your own adds ``forward`` and a ``head``, and is registered by
    :func:`derl.model.registry.register_model`.

    Attributes:
        label: the model's name in tables.
        fuses: whether it answers with ``fusion_weights``, which say who carried a score.
    """

    label: ClassVar[str] = "unnamed"
    fuses: ClassVar[bool] = False
    config_class = DerlConfig
    base_model_prefix = "derl"

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        if "text" in config.modalities:
            self.text_encoder = _without_pooler(AutoModel.from_config(config.text_config))
        width = sum(self._frame_dims().values())
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_scale", torch.ones(width))

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> "SentimentModel":
        """Read a saved model, from safetensors alone.

        Args:
            folder: that a run or ``save_pretrained`` wrote, or a model's name on the Hub.
            args, kwargs: as of ``transformers.PreTrainedModel.from_pretrained``.

        Raises:
            DataError: the weights are pickled, which can run code when they are read.
            OSError: there are none.
        """
        pickled = sorted(path.name for path in Path(folder).glob("*.bin") if "model" in path.name)
        if kwargs.pop("use_safetensors", True) is False or (pickled and not list(Path(folder).glob("*.safetensors"))):
            raise DataError(
                f"{folder}: expected weights in safetensors, got {', '.join(pickled) or 'use_safetensors=False'}; a "
                "pickle can run code when it is read: save the model again with save_pretrained."
            )
        loaded = super().from_pretrained(folder, *args, use_safetensors=True, **kwargs)
        own_weights(loaded[0] if isinstance(loaded, tuple) else loaded)  # a tuple: with output_loading_info
        return loaded

    @classmethod
    def from_text_pretrained(cls, text_encoder: str, config: DerlConfig) -> "SentimentModel":
        """Build the model around a pretrained text encoder, a folder or a name on the Hub."""
        pretrained = own_weights(AutoModel.from_pretrained(text_encoder, dtype=torch.float32))
        config.text_config = pretrained.config
        model = cls(config)
        model.text_encoder = _without_pooler(pretrained)
        return model

    def _init_weights(self, module: nn.Module) -> None:
        """Leave modules as their constructors drew them."""

    def input_dims(self) -> dict[str, int]:
        """Width of a frame for every modality, as it comes from :meth:`embed`."""
        text = {"text": self.config.text_config.hidden_size} if "text" in self.config.modalities else {}
        return {name: (text | self.config.input_dims)[name] for name in self.config.modalities}

    def _frame_dims(self) -> dict[str, int]:
        """Widths in the order of the buffers, that of the sorted names."""
        return {name: self.config.input_dims[name] for name in sorted(self.config.modalities) if name != "text"}

    def fit_features(self, features: Mapping[str, Rows], lengths: Mapping[str, Tensor]) -> None:
        """Learn each feature's mean and standard deviation over real training frames, for :meth:`standardize`.

        Args:
            features: for every modality but text n rows of ``(L, D_m)``, of which a few at a time are in memory.
            lengths: ``(n,)``, real frames of each sample.
        """
        means, scales = [torch.zeros(0)], [torch.ones(0)]
        for name in self._frame_dims():
            scale, mean = _std_mean(features[name], lengths[name].tolist())
            means.append(mean.float())
            scales.append(torch.where(scale > 0, scale, 1).float())
        self.feature_mean.copy_(torch.cat(means))
        self.feature_scale.copy_(torch.cat(scales))

    def standardize(self, inputs: Mapping[str, Tensor]) -> Features:
        """Give every feature mean 0 and deviation 1, so that a frame erased to zeros is an average one."""
        standard = {name: inputs[name] for name in self.config.modalities}
        widths = self._frame_dims()
        statistics = (part.split(list(widths.values())) for part in (self.feature_mean, self.feature_scale))
        for name, mean, scale in zip(widths, *statistics, strict=True):
            standard[name] = (inputs[name] - mean) / scale
        return standard

    def corrupt(self, inputs: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> Features:
        """Erase what was not kept (eq. 1): words become [UNK], frames zeros."""
        return {
            name: erase(
                inputs[name],
                keep[name],
                unk_token_id=self.config.unk_token_id if name == "text" else None,
                special_token_ids=self.config.special_token_ids if name == "text" else (),
            )
            for name in self.config.modalities
        }

    def embed(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Features:
        """Turn token ids into the text encoder's states; other modalities pass as they are."""
        embedded = {name: inputs[name] for name in self.config.modalities}
        if "text" in embedded:
            embedded["text"] = encode_by_length(self.text_encoder, inputs["text"], masks["text"])
        return embedded

    def drop_training_parts(self) -> None:
        """Remove what only training uses, before an export."""

    def score(self, pooled: Tensor) -> Tensor:
        """Apply the head without autocast: a score rounded to bf16 has two or three digits."""
        with torch.autocast(pooled.device.type, enabled=False):
            prediction: Tensor = self.head(pooled.to(self.head.weight.dtype)).squeeze(-1)
        return prediction

    @property
    def compares_scores(self) -> bool:
        """Whether training also scores the complete input of corrupted rows."""
        return bool(self.config.consistency_weight or self.config.complete_weight)

    def compare(self, output: DerlOutput, complete_prediction: Tensor, rows: Tensor, labels: Tensor) -> None:
        """Add to the loss what the complete input's score of ``rows`` teaches, averaged over the whole batch."""
        if not len(rows):
            return
        share = len(rows) / len(labels)
        output.consistency_loss = share * F.mse_loss(output.prediction[rows], complete_prediction.detach())
        output.loss = (
            output.loss
            + self.config.consistency_weight * output.consistency_loss
            + self.config.complete_weight * share * self.task_loss(complete_prediction, labels[rows])
        )

    def check(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None,
        keep: Mapping[str, Tensor] | None,
        labels: Tensor | None,
    ) -> None:
        """Refuse a batch whose names, widths or sizes do not fit the model.

        Raises:
            ValueError: says which part, what was expected and what came.
        """
        owner, names = type(self).__name__, set(self.config.modalities)
        for label, part in (("inputs", inputs), ("masks", masks), ("keep", keep)):
            if part is not None and part.keys() != names:
                raise ValueError(
                    f"{owner} expected {label} for modalities {tuple(self.config.modalities)}, got {tuple(part)}; "
                    "a modality that is missing stays in inputs and is marked lost in keep."
                )
        batch_size = next(iter(inputs.values())).shape[0]
        for name, part in inputs.items():
            sizes = (batch_size, part.shape[1]) if name == "text" else (*part.shape[:2], self.config.input_dims[name])
            if batch_size == 0 or part.shape[0] != batch_size or tuple(part.shape) != sizes:
                raise ValueError(
                    f"{owner} expected inputs of one batch size of at least 1, text ids (B, L) and features (B, L, D) "
                    f"with D = {self.config.input_dims}, got {name!r} of shape {tuple(part.shape)}."
                )
            for label, mask in (("masks", masks), ("keep", keep)):
                if mask is not None and mask[name].shape != part.shape[:2]:
                    raise ValueError(
                        f"{owner} expected {label} of {name!r} of shape {tuple(part.shape[:2])}, "
                        f"got {tuple(mask[name].shape)}."
                    )
        if labels is not None and tuple(labels.shape) != (batch_size,):
            raise ValueError(f"{owner} expected labels of shape ({batch_size},), got {tuple(labels.shape)}.")

    def task_loss(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Mean squared or absolute error of the score."""
        criterion = F.mse_loss if self.config.task_loss == "mse" else F.l1_loss
        return criterion(prediction, labels)


def _std_mean(rows: Rows, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Deviation and mean of all frames, a chunk at a time (Chan, Golub and LeVeque, 1983)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for start in range(0, len(lengths), _CHUNK):
        part = torch.cat([rows[row][: lengths[row]] for row in range(len(lengths))[start : start + _CHUNK]]).double()
        if len(part):
            total, shift = count + len(part), part.mean(0) - mean
            squares = squares + (part - part.mean(0)).square().sum(0) + shift.square() * count * len(part) / total
            mean = mean + shift * len(part) / total
            count = total
    return (squares / count).sqrt(), mean


def lost_rows(masks: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> Tensor:
    """Indices of the rows that lost something."""
    return torch.stack([(masks[name] & ~keep[name]).any(1) for name in masks]).any(0).nonzero().squeeze(1)


def append_rows(parts: Mapping[str, Tensor], others: Mapping[str, Tensor], rows: Tensor) -> Features:
    """Put ``rows`` of ``others`` below each part."""
    return {name: torch.cat([part, others[name][rows]]) for name, part in parts.items()}


def all_real(inputs: Mapping[str, Tensor]) -> Features:
    return {name: torch.ones(part.shape[:2], dtype=torch.bool, device=part.device) for name, part in inputs.items()}


def own_weights(model: nn.Module) -> nn.Module:
    """Move weights out of a mapped file, to addresses such as PyTorch's allocator gives.

    MKL may sum in another order where an operand starts elsewhere: without this a loaded model's answers would
    differ in their last bits from those of the model that was saved.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()
    return model


def _without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drop the pooler, which only a classification token would use: every parameter left gets a gradient."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder
