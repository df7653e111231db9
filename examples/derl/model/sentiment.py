"""SentimentModel: base class of DERL and its plain baseline."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from derl.data.split import DataError
from derl.model.batch import Prepared, check_batch, read_batch
from derl.model.by_length import encode_by_length
from derl.model.config import DerlConfig
from derl.model.masks import Features, any_present, dropped_rows
from derl.model.output import DerlOutput
from derl.model.problem import PROBLEMS, Problem
from derl.model.statistics import Rows, std_mean
from derl.model.text_encoder import check_encoder, own_weights, without_pooler
from derl.model.training import Batch, Phase
from modx.missing import erase


class SentimentModel(PreTrainedModel):
    """Base class of sentiment models: a fine-tuned text encoder, and the corruption of input.

    A subclass adds ``forward`` and a ``head``; :func:`derl.model.registry.register_model` registers it.

    Attributes:
        label: the model's name in tables.
        fuses: whether the output has ``fusion_weights``, the shares of the modalities in a score.
        exports: whether ``derl_export.py`` takes the model; if not, it says so.
        recipe: options of the model's own paper, which ``--recipe paper`` puts before DERL's.
        smoke: ``config.core`` of the smoke preset, for a model with a core.
        remembers: whether ``forward`` takes ``index``, the samples' places in the training split.
        phases: phases of training, which take turns. Default: none.
        phase: name of the current phase, which the trainer sets; None outside of training.
    """

    label: ClassVar[str] = "unnamed"
    fuses: ClassVar[bool] = False
    exports: ClassVar[bool] = True
    recipe: ClassVar[Mapping[str, Any]] = {}
    smoke: ClassVar[Mapping[str, Any]] = {}
    remembers: ClassVar[bool] = False
    phases: ClassVar[Sequence[Phase]] = ()
    phase: str | None = None
    config_class = DerlConfig
    base_model_prefix = "derl"

    def __init__(self, config: DerlConfig) -> None:
        super().__init__(config)
        if "text" in config.modalities:
            self.text_encoder = without_pooler(AutoModel.from_config(config.text_config))
        width = sum(self._frame_dims().values())
        self.register_buffer("feature_mean", torch.zeros(width))
        self.register_buffer("feature_scale", torch.ones(width))
        self.register_buffer("feature_fill", torch.zeros(width))
        self.register_buffer("label_mean", torch.zeros(()))
        self.register_buffer("label_scale", torch.ones(()))

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> "SentimentModel":
        """Load a saved model, from safetensors only.

        Args:
            folder: that a run or ``save_pretrained`` wrote, or a model's name on the Hub.
            args, kwargs: passed to ``transformers.PreTrainedModel.from_pretrained``.

        Raises:
            DataError: The weights are pickled; reading a pickle can run code.
            OSError: There are no weights.
        """
        pickled = sorted(path.name for path in Path(folder).glob("*.bin") if "model" in path.name)
        if kwargs.pop("use_safetensors", True) is False or (pickled and not list(Path(folder).glob("*.safetensors"))):
            raise DataError(
                f"{folder}: expected weights in safetensors, got {', '.join(pickled) or 'use_safetensors=False'}; a "
                "pickle can run code when it is read: save the model again with save_pretrained."
            )
        loaded = super().from_pretrained(folder, *args, use_safetensors=True, **kwargs)
        own_weights(loaded[0] if isinstance(loaded, tuple) else loaded)  # a tuple if output_loading_info is set
        return loaded

    @classmethod
    def from_text_pretrained(cls, text_encoder: str, config: DerlConfig) -> "SentimentModel":
        """Build the model around a pretrained text encoder, given its folder or its name on the Hub.

        Raises:
            DataError: The model is no encoder of text, or cannot read ``config.max_lengths["text"]`` tokens.
        """
        pretrained = own_weights(AutoModel.from_pretrained(text_encoder, dtype=torch.float32))
        check_encoder(text_encoder, pretrained, config)
        config.text_config = pretrained.config
        model = cls(config)
        model.text_encoder = without_pooler(pretrained)
        return model

    @property
    def problem(self) -> Problem:
        """What the model predicts, a number or a class."""
        return PROBLEMS[self.config.problem_type](self.config, self.label_mean, self.label_scale)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters after the text encoder, in replicas of ``DataParallel`` too; float32 if quantized."""
        children = (child for name, child in self.named_children() if name != "text_encoder")
        owned = (
            getattr(part, "_former_parameters", part._parameters) for child in children for part in child.modules()
        )
        found = (tensor for tensors in owned for tensor in tensors.values() if tensor is not None)
        return next((tensor.dtype for tensor in found if tensor.is_floating_point()), torch.float32)

    def post_init(self) -> None:
        self._keep_in_fp32_modules_strict = [name for name, _ in self.named_buffers(recurse=False)]  # as _apply does
        super().post_init()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SentimentModel":
        """Keep the statistics of features in float32: raw features can exceed the range of float16."""
        kept = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, wide in kept.items():
            if self._buffers[name].itemsize < wide.itemsize:
                self._buffers[name] = wide.to(self._buffers[name].device)
        return self

    def init_weights(self) -> None:
        """Keep the values that the constructors drew."""
        self.tie_weights(recompute_mapping=False)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Draw what a checkpoint lacks or holds in another shape; transformers calls this after loading.

        The values are copied from a new model, so a layer needs no method that resets it. A text encoder has its own.
        """
        if "text" in self.config.modalities:
            self.text_encoder.initialize_weights()
        # transformers marks the tensors that it loaded; the others are raw memory
        raw = {name: part for name, part in _own(self) if not getattr(part, "_is_hf_initialized", False)}
        if raw:
            for name, drawn in _own(type(self)(self.config)):
                if name in raw:
                    raw[name].copy_(drawn)

    def input_dims(self) -> dict[str, int]:
        """Width of a frame per modality, as :meth:`embed` returns it."""
        text = {"text": self.config.text_config.hidden_size} if "text" in self.config.modalities else {}
        return {name: (text | self.config.input_dims)[name] for name in self.config.modalities}

    def _frame_dims(self) -> dict[str, int]:
        """Widths in the order of the buffers, by sorted name."""
        return {name: self.config.input_dims[name] for name in sorted(self.config.modalities) if name != "text"}

    def prepare(
        self,
        inputs: Mapping[str, Tensor | None],
        masks: Mapping[str, Tensor] | None,
        keep: Mapping[str, Tensor] | None,
        labels: Tensor | None,
    ) -> Prepared:
        """Check the arguments of :meth:`forward`, standardize features and erase what was not kept."""
        inputs, masks, keep = read_batch(self, inputs, masks, keep, labels)
        inputs = self.standardize(inputs)
        seen = inputs if keep is None else self.corrupt(inputs, keep)
        trains = self.training and labels is not None and keep is not None
        rows = dropped_rows(masks, keep) if trains else None
        return Prepared(inputs, masks, keep, seen, self.present(masks, keep), rows)

    def check(
        self,
        inputs: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None,
        keep: Mapping[str, Tensor] | None,
        labels: Tensor | None,
    ) -> None:
        """Refuse a batch that does not match the model; a subclass that embeds other inputs overrides it, too."""
        check_batch(type(self).__name__, self.config, inputs, masks, keep, labels)

    def fit_features(
        self, features: Mapping[str, Rows], lengths: Mapping[str, Tensor], *, standardize: bool = True
    ) -> None:
        """Compute each feature's mean and standard deviation over the values observed in training.

        Args:
            features: modality (except text) -> n rows ``(L, D_m)``; a few rows at a time are in memory.
            lengths: modality -> ``(n,)``, number of frames per sample.
            standardize: whether :meth:`standardize` scales features; if not, it only fills in missing values.
        """
        means, scales = [torch.zeros(0)], [torch.ones(0)]
        for name in self._frame_dims():
            scale, mean = std_mean(features[name], lengths[name].tolist())
            means.append(mean.float())
            scales.append(torch.where(scale > 0, scale, 1).float())
        self.feature_fill.copy_(torch.cat(means))
        if standardize:
            self.feature_mean.copy_(torch.cat(means))
            self.feature_scale.copy_(torch.cat(scales))

    def fit_labels(self, labels: Tensor) -> None:
        """Compute what depends on training labels ``(n,)``: how the head scales them, and the answer without input."""
        self.config.mean_label = labels.double().mean().item()
        self.problem.fit(labels)

    def standardize(self, inputs: Mapping[str, Tensor]) -> Features:
        """Fill in missing (NaN) values by the training mean, then scale features to mean 0 and standard deviation 1.

        An erased (zero) frame is then an average one. The statistics do nothing until :meth:`fit_features` is called.
        Features of any dtype are standardized in float32 or wider, then cast to the model's dtype.
        """
        standard = {name: inputs[name] for name in self.config.modalities}
        widths = self._frame_dims()
        buffers = (self.feature_fill, self.feature_mean, self.feature_scale)
        statistics = (part.split(list(widths.values())) for part in buffers)
        for name, fill, mean, scale in zip(widths, *statistics, strict=True):
            filled = torch.where(inputs[name].isnan(), fill, inputs[name])
            standard[name] = ((filled - mean) / scale).to(self.dtype)
        return standard

    def corrupt(self, inputs: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> Features:
        """Erase what was not kept (eq. 1): words become [UNK], frames become zeros."""
        return {
            name: erase(
                inputs[name],
                keep[name],
                unk_token_id=self.config.unk_token_id if name == "text" else None,
                special_token_ids=self.config.special_token_ids if name == "text" else (),
            )
            for name in self.config.modalities
        }

    def present(self, masks: Mapping[str, Tensor], keep: Mapping[str, Tensor] | None) -> Features:
        """Return the masks without the modalities that were dropped whole, if the configuration calls them absent."""
        if keep is None or self.config.dropped_modality == "erased":
            return dict(masks)
        return {name: mask & (mask & keep[name]).any(1, keepdim=True) for name, mask in masks.items()}

    def embed(self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Features:
        """Replace token ids with the text encoder's states; other modalities are unchanged."""
        embedded = {name: inputs[name] for name in self.config.modalities}
        if "text" in embedded:
            mask = masks["text"]
            alone = ~mask.any(1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0)
            # attention over no token at all can be NaN; the states of an absent text are not read
            embedded["text"] = encode_by_length(self.text_encoder, inputs["text"], mask | alone)
        return embedded

    def drop_training_parts(self) -> None:
        """Remove parts that only training uses, before an export."""

    def score(self, pooled: Tensor) -> Tensor:
        """Turn pooled features into predictions."""
        return self.problem.predict(self.outputs(pooled))

    def outputs(self, pooled: Tensor) -> Tensor:
        """Apply the head without autocast, since bf16 would leave a score two or three digits."""
        with torch.autocast(pooled.device.type, enabled=False):
            return self.head(pooled.to(self.dtype))

    def answer(self, scores: Tensor, present: Mapping[str, Tensor]) -> Tensor:
        """Answer samples of which nothing is present by the mean of the training labels, or the shares of classes."""
        return self.problem.fill_in(scores, any_present(present))

    @property
    def compares_scores(self) -> bool:
        """Return whether training also scores the complete input of corrupted rows."""
        return bool(self.config.consistency_weight or self.config.complete_weight)

    def add_losses(self, output: DerlOutput, batch: Batch) -> None:
        """Set the loss of the output, the sum of :meth:`losses`."""
        terms = self.losses(output, batch)
        output.task_loss = terms["task"]
        output.loss = reduce(operator.add, terms.values())

    def losses(self, output: DerlOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss by name, each times its weight: the task's, and those of the complete input.

        A model with losses of its own adds them here; the trainer knows none. :meth:`forward` with labels calls this.
        """
        return {"task": self.task_loss(output.prediction, batch.labels)} | self.comparison(output, batch)

    def comparison(self, output: DerlOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the complete input's scores of ``batch.rows``, averaged over the whole batch."""
        if batch.complete_prediction is None or not len(batch.rows):
            return {}
        prediction, labels = batch.complete_prediction, batch.labels
        share = len(batch.rows) / len(labels)
        output.consistency_loss = share * self.problem.distance(output.prediction[batch.rows], prediction.detach())
        task_loss = self.task_loss(prediction, labels[batch.rows])
        return {
            "consistency": self.config.consistency_weight * output.consistency_loss,
            "complete": self.config.complete_weight * share * task_loss,
        }

    def task_loss(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared or absolute error of standardized scores, or cross-entropy of classes."""
        return self.problem.errors(prediction, labels, reduction="mean")


def _own(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return the parameters and buffers outside of the text encoder."""
    named = chain(model.named_parameters(), model.named_buffers())
    return ((name, part) for name, part in named if not name.startswith("text_encoder."))
