"""A batch: check it against the model, and give every modality of the model a place in it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from derl.model.config import DerlConfig
from derl.model.masks import Features, all_real


class Prepared(NamedTuple):
    """A batch that has been checked and corrupted.

    Attributes:
        inputs: modality -> complete input, features standardized.
        masks: modality -> bool ``(B, L)``, True where real and observed.
        keep: modality -> bool ``(B, L)``, True where kept; None if nothing was dropped.
        seen: modality -> what was kept of the input; the rest is erased.
        shown: the masks without absent modalities, see :meth:`derl.model.sentiment.SentimentModel.present`.
        rows: indices of the samples with dropped elements; None outside of training, and if nothing was dropped.
    """

    inputs: Features
    masks: Features
    keep: Features | None
    seen: Features
    shown: Features
    rows: Tensor | None


def read_batch(
    model: Any,
    inputs: Mapping[str, Tensor | None],
    masks: Mapping[str, Tensor] | None,
    keep: Mapping[str, Tensor] | None,
    labels: Tensor | None,
) -> tuple[Features, Features, Features | None]:
    """Check a batch, and give every modality of the model a place in it.

    A modality that is None or left out gets one masked element. Masked token ids become [PAD], because a text encoder
    looks up every id.

    Args:
        model: a :class:`derl.model.sentiment.SentimentModel`.
        inputs, masks, keep, labels: arguments of :meth:`derl.model.derl.DerlModel.forward`.

    Returns:
        ``inputs``, ``masks`` and ``keep``.

    Raises:
        ValueError: A part does not match the model; the message names it.
    """
    config, given = model.config, {name: part for name, part in inputs.items() if part is not None}
    model.check(given, masks, keep, labels)
    if masks is not None and "text" in given and given["text"].ndim == 2:  # ids, not states
        given["text"] = given["text"].masked_fill(~masks["text"], config.text_config.pad_token_id or 0)
    masks, keep = dict(all_real(given) if masks is None else masks), None if keep is None else dict(keep)
    other = next(iter(given.values()))
    for name in [name for name in config.modalities if name not in given]:
        masks[name] = torch.zeros(other.shape[0], 1, dtype=torch.bool, device=other.device)
        if keep is not None:
            keep[name] = masks[name]
        if name == "text":
            given[name] = torch.zeros(masks[name].shape, dtype=torch.long, device=other.device)
        else:
            shape = *masks[name].shape, config.input_dims[name]
            given[name] = torch.zeros(shape, dtype=model.dtype, device=other.device)
    return given, masks, keep


def check_batch(
    owner: str,
    config: DerlConfig,
    inputs: Mapping[str, Tensor],
    masks: Mapping[str, Tensor] | None,
    keep: Mapping[str, Tensor] | None,
    labels: Tensor | None,
) -> None:
    """Refuse a batch whose modality names, widths or sizes do not match the model.

    Raises:
        ValueError: A part does not match; the message names it.
    """
    names = set(config.modalities)
    if not inputs or not inputs.keys() <= names:
        raise ValueError(
            f"{owner} expected inputs of the modalities {tuple(config.modalities)}, at least one, "
            f"got {tuple(inputs)}; rename or remove the others."
        )
    for label, part in (("masks", masks), ("keep", keep)):
        if part is not None and not inputs.keys() <= part.keys() <= names:
            raise ValueError(
                f"{owner} expected {label} for the modalities {tuple(inputs)}, got {tuple(part)}; pass one for each."
            )
    batch_size = next(iter(inputs.values())).shape[0]
    for name, part in inputs.items():
        sizes = (batch_size, part.shape[1]) if name == "text" else (*part.shape[:2], config.input_dims[name])
        if batch_size == 0 or part.shape[0] != batch_size or tuple(part.shape) != sizes:
            raise ValueError(
                f"{owner} expected inputs of one batch size of at least 1, text ids (B, L) and features (B, L, D) "
                f"with D = {config.input_dims}, got {name!r} of shape {tuple(part.shape)}."
            )
        for label, mask in (("masks", masks), ("keep", keep)):
            if mask is not None and mask[name].shape != part.shape[:2]:
                raise ValueError(
                    f"{owner} expected {label}[{name!r}] of shape {tuple(part.shape[:2])}, "
                    f"got {tuple(mask[name].shape)}."
                )
    if labels is not None and tuple(labels.shape) != (batch_size,):
        raise ValueError(f"{owner} expected labels of shape ({batch_size},), got {tuple(labels.shape)}.")
