"""DerlProcessor: from raw text and arrays, with any of them missing, to a batch."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from derl.data.absence import observed
from derl.data.collate import Collator
from derl.data.cuts import describe_cut
from derl.data.split import DataError, check_text
from derl.data.tokens import tokenize
from derl.model.config import DerlConfig
from derl.predict.raw import in_sample, is_single, read_frames, read_masks, without_nan

Sample = dict[str, Tensor | None]


class DerlProcessor:
    """Turn raw samples into a batch for a model: ``model(**processor(text="...", audio=frames))``.

    It is not saved itself: widths and lengths are in the model's configuration, the tokenizer is saved beside it, and
    the statistics that standardize features are buffers of the model.

    Args:
        config: the model's configuration.
        tokenizer: the model's tokenizer; None for a model without text.

    Raises:
        DataError: The model reads text, and ``tokenizer`` is None.

    Example:
        >>> config = DerlConfig(modalities=["audio", "vision"])
        >>> batch = DerlProcessor(config, None)(audio=torch.zeros(7, 5))
        >>> batch["inputs"]["audio"].shape, batch["keep"]["vision"].any()
        (torch.Size([1, 7, 5]), tensor(False))
    """

    def __init__(self, config: DerlConfig, tokenizer: PreTrainedTokenizerBase | None) -> None:
        if not isinstance(config, DerlConfig):
            raise TypeError(
                f"DerlProcessor expected config to be a DerlConfig, got {type(config).__name__}; pass model.config."
            )
        if "text" in config.modalities and tokenizer is None:
            raise DataError(
                "DerlProcessor expected a tokenizer for a model that reads text, got None; pass the model's tokenizer."
            )
        if not isinstance(tokenizer, (PreTrainedTokenizerBase, type(None))):
            raise TypeError(
                f"DerlProcessor expected tokenizer from transformers, got {type(tokenizer).__name__}; pass what "
                "AutoTokenizer.from_pretrained returns."
            )
        self.config, self.tokenizer = config, tokenizer
        self._collate = Collator(0 if tokenizer is None else tokenizer.pad_token_id)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **kwargs: Any) -> "DerlProcessor":
        """Load the configuration and the tokenizer of a saved model; ``AutoProcessor`` works too.

        Args:
            folder: the model's folder, or its name on the Hub.
            kwargs: passed to ``AutoTokenizer.from_pretrained``.

        Raises:
            DataError: The model reads text, and there is no tokenizer.
        """
        config = DerlConfig.from_pretrained(folder)
        kwargs.pop("_from_auto", None)
        if "text" not in config.modalities:
            return cls(config, None)
        try:
            return cls(config, AutoTokenizer.from_pretrained(folder, **kwargs))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder}: expected a tokenizer beside the model, found none ({str(error).splitlines()[0]}); save it "
                "there with save_pretrained."
            ) from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the tokenizer, which the model's ``save_pretrained`` leaves out."""
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def __call__(self, **samples: Any) -> dict[str, dict[str, Tensor]]:
        """Make a batch from raw samples.

        Args:
            samples: passed to :meth:`read`.

        Returns:
            ``inputs``, ``masks`` and ``keep``, the arguments of :meth:`derl.model.derl.DerlModel.forward`. A missing
            modality is what one dropped whole is in training (``config.dropped_modality``): "erased", as many [UNK] or
            frames of zeros as a typical training sample has, or "absent", masked.
        """
        return self.batch(self.read(**samples)[0])

    def read(self, *, masks: Any = None, **samples: Any) -> tuple[list[Sample], bool]:
        """Check raw samples, tokenize them and truncate them to the model's lengths.

        Args:
            masks: modality -> what was observed of its frames, True or False: ``(L,)`` for one sample, a list of these
                or ``(B, L)`` for several. Default: everything. What was not observed is never read.
            samples: modality -> one sample or several. One sample is a string for text, and frames ``(L, D)`` for other
                modalities: an array, a tensor or nested lists, of any length. Several samples are a list of these, or
                an array ``(B, L, D)``. Leave out a missing modality, or put None or NaN, an empty cell of a table, in a
                list. Frames beyond ``config.max_lengths`` are cut off at the end, with a warning. A value that is not
                finite counts as missing, a frame of such values is masked, and an array without any other frame is
                missing. So is a text without words.

        Returns:
            ``(samples, single)``. ``samples`` holds, per sample, modality -> token ids ``(L,)`` or frames ``(L, D)``,
            or None if missing. ``single`` is True if one sample was given outside a list.

        Raises:
            DataError: A modality name, type, width or number of samples is wrong, a mask does not fit its frames, or no
                modality is given.
        """
        names = tuple(self.config.modalities)
        if "masks" in names:  # a modality of that name
            samples, masks = samples | {"masks": masks}, None
        unknown = [name for name in samples if name not in names]
        if unknown:
            raise DataError(f"predict expected the model's modalities, {names}, got {unknown[0]!r}; leave it out.")
        samples = {name: without_nan(value) for name, value in samples.items()}
        given = {name: value for name, value in samples.items() if value is not None}
        if not given:
            raise DataError(f"predict expected at least one of {names}, got none.")
        single = {name: is_single(name, value) for name, value in given.items()}
        if len(set(single.values())) > 1:
            kinds = ", ".join(f"{'one' if one else 'several'} of {name}" for name, one in single.items())
            raise DataError(
                f"predict expected one sample of every modality or a list of samples of every modality, got {kinds}."
            )
        rows = {name: [value] if single[name] else list(value) for name, value in given.items()}
        sizes = {name: len(part) for name, part in rows.items()}
        if len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise DataError(
                f"predict expected as many samples of every modality, at least one, got {sizes}; "
                "put None where a sample lacks one."
            )
        observed_rows = read_masks(masks, rows, single)
        parts = {
            name: self._read_text(part) if name == "text" else self._read(name, part, observed_rows.get(name))
            for name, part in rows.items()
        }
        read: list[Sample] = [
            {name: parts[name][row] if name in parts else None for name in names}
            for row in range(next(iter(sizes.values())))
        ]
        return read, all(single.values())

    def batch(self, samples: Sequence[Sample]) -> dict[str, dict[str, Tensor]]:
        """Pad samples from :meth:`read` to a batch, with stand-ins for missing modalities."""
        items = []
        for sample in samples:
            erased = self.config.dropped_modality == "erased" and not is_empty(sample)
            inputs, masks, keep = {}, {}, {}
            for name, part in sample.items():
                content = self._missing(name, erased) if part is None else part
                keep[name] = self._observed(name, content) & (part is not None)
                masks[name] = torch.ones_like(keep[name]) if part is None and erased else keep[name]
                if content.is_floating_point():
                    content = torch.where(masks[name][:, None], content, 0)
                inputs[name] = content
            items.append({"inputs": inputs, "masks": masks, "keep": keep})
        return self._collate(items)

    def _observed(self, name: str, content: Tensor) -> Tensor:
        if name == "text":
            return torch.ones(len(content), dtype=torch.bool)
        return observed(content, self.config.partly_missing)

    def _missing(self, name: str, erased: bool) -> Tensor:
        """Return what stands in for a missing modality: a typical sequence to erase, or one frame to mask."""
        length = self.config.typical_lengths[name] if erased else 1
        if name == "text" and not erased:
            return torch.zeros(1, dtype=torch.int64)
        if name == "text":
            words = " ".join([self.tokenizer.unk_token] * length)
            return torch.tensor(self.tokenizer(words, truncation=True, max_length=length)["input_ids"])
        return torch.zeros(length, self.config.input_dims[name])

    def _read_text(self, rows: Sequence[Any]) -> list[Tensor | None]:
        for row, text in enumerate(rows):
            if text is not None and not isinstance(text, str):
                raise DataError(
                    f"predict expected text to be strings, got {type(text).__name__}{in_sample(row, rows)}; pass the "
                    "raw words, the model has its own tokenizer."
                )
            if text is not None:
                check_text("predict", f"text{in_sample(row, rows)}", text)
        limit = self.config.max_lengths["text"]
        whole = tokenize(rows, self.tokenizer)
        self._warn_of_cut("text", "tokens", [len(part) for part in whole])
        cut = tokenize(rows, self.tokenizer, limit) if any(len(part) > limit for part in whole) else whole
        special = {self.config.unk_token_id, *self.config.special_token_ids}
        unknown = sum(bool(part) and special.issuperset(part) for part in cut)
        if unknown:
            warnings.warn(
                f"text holds no word that the model knows in {unknown} of {len(rows)} samples: it counts as present, "
                "but carries no information.",
                stacklevel=2,
            )
        return [torch.tensor(part, dtype=torch.int64) if part else None for part in cut]

    def _read(self, name: str, rows: Sequence[Any], masks: Sequence[Any] | None) -> list[Tensor | None]:
        masks = [None] * len(rows) if masks is None else masks
        width = self.config.input_dims[name]
        frames = [
            None if part is None else read_frames(name, part, mask, width, in_sample(row, rows))
            for row, (part, mask) in enumerate(zip(rows, masks, strict=True))
        ]
        infinite = sum(int(part.isinf().sum()) for part in frames if part is not None)
        if infinite:
            warnings.warn(f"{name} holds infinity in {infinite} values, which count as missing.", stacklevel=2)
        frames = [None if part is None else part.masked_fill(part.isinf(), torch.nan) for part in frames]
        self._warn_of_cut(name, "frames", [0 if part is None else len(part) for part in frames])
        limit = self.config.max_lengths[name]
        cut = [None if part is None else part[:limit] for part in frames]
        return [None if part is None or not self._observed(name, part).any() else part for part in cut]

    def _warn_of_cut(self, name: str, unit: str, lengths: Sequence[int]) -> None:
        line = describe_cut(name, unit, lengths, self.config.max_lengths[name])
        if line:
            warnings.warn(f"{line}.", stacklevel=2)


def is_empty(sample: Sample) -> bool:
    """Return whether a sample lacks every modality."""
    return all(content is None for content in sample.values())
