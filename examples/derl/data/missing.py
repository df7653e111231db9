"""A dataset that drops input from the samples of a split."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from derl.data.absence import PARTLY_MISSING, observed
from derl.data.shards import ShardedSplit
from derl.data.split import DataError, Split
from derl.data.tokens import tokenize
from modx.missing import PATTERNS, drop, keep_modalities, parse_pattern

_ROWS = 1024  # rows tokenized per call


class MissingDataset(Dataset[dict[str, Any]]):
    """Serve the samples of a split with frames or modalities dropped, reproducibly.

    - Training (neither ``rate`` nor ``available``): every epoch corrupts ``corrupted_share`` of the samples, rounded
      down. Each modality drops input at its own rate from U(0, 1), or at ``train_rate``. A pattern that ties modalities
      together uses one rate for all. ``set_epoch`` redraws.
    - Evaluation at ``rate``: every sample drops frames at this rate. With a nested pattern, what is dropped at a lower
      rate is also dropped at a higher one.
    - Evaluation with ``available``: the other modalities are dropped entirely.

    Whether a frame is dropped depends only on the seed, the epoch (in training), the sample's id and the modality (or,
    for patterns that tie modalities together, the set of modalities). It does not depend on batch size, workers or
    order. Samples with the same id are told apart by their order in the split. Which samples a training epoch corrupts
    also depends on the ids in the split.

    Item i is a dict. L is the sample's own length. A modality that the sample lacks is one masked frame of zeros.

    - ``inputs``: modality -> token ids ``(L,)`` int64 or features ``(L, D)``, with nothing erased. Values that were not
      observed are NaN in frames that were, and 0 in frames that were not.
    - ``masks``: modality -> ``(L,)`` bool, True where observed.
    - ``keep``: modality -> ``(L,)`` bool, True where observed and not dropped. Rates apply to what was observed.
    - ``labels``: a float.
    - ``index``: i.

    Args:
        split: the samples to serve.
        tokenizer: a Hugging Face tokenizer; text is truncated to ``max_lengths["text"]`` tokens.
        max_lengths: modality -> maximum number of frames per sample.
        modalities: modalities of the split to serve.
        seed: seed of all random draws.
        rate: evaluate at this missing rate.
        available: evaluate with only these modalities.
        pattern: how input goes missing: a name in ``modx.missing.PATTERNS``, registered ones included, or several names
            joined by "+", of which each sample draws one.
        corrupted_share: share of the training samples to corrupt per epoch.
        corrupt_by: "sample" corrupts the same samples in every modality; "modality" draws samples per modality.
        train_rate: missing rate of corrupted training samples. Default: drawn from U(0, 1).
        partly_missing: "impute" serves frames of which some values are missing, "mask" masks them.

    Raises:
        DataError: The split lacks a modality, or a sample has more frames than ``max_lengths`` allows.
        ValueError: Both ``rate`` and ``available`` are given, ``rate`` or ``corrupted_share`` is not in [0, 1], or a
            modality, the pattern or ``partly_missing`` is unknown.
    """

    def __init__(
        self,
        split: Split | ShardedSplit,
        tokenizer: Any,
        *,
        max_lengths: Mapping[str, int],
        modalities: Sequence[str],
        seed: int,
        rate: float | None = None,
        available: Collection[str] | None = None,
        pattern: str = "frames",
        corrupted_share: float = 0.5,
        corrupt_by: str = "sample",
        train_rate: float | None = None,
        partly_missing: str = "impute",
    ) -> None:
        _check_kinds(split, tokenizer, modalities, max_lengths, available, seed)
        if partly_missing not in PARTLY_MISSING:
            raise ValueError(
                f"MissingDataset expected partly_missing out of {PARTLY_MISSING}, got {partly_missing!r}; pass one."
            )
        _check_protocol(modalities, rate, available, corrupted_share, corrupt_by, train_rate)
        _check_split(split, modalities, max_lengths)
        self.split, self.modalities, self.seed = split, tuple(modalities), seed
        self.rate, self.available = rate, None if available is None else tuple(available)
        self.pattern, self._patterns, self.corrupted_share = pattern, parse_pattern(pattern), corrupted_share
        self.corrupt_by, self.train_rate, self.partly_missing = corrupt_by, train_rate, partly_missing
        text = split.text if "text" in modalities else None
        self._tokens, self._token_ends = _tokenize(text or [], tokenizer, max_lengths.get("text", 0))
        self._names = _distinct(split.ids)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers see set_epoch
        self._corrupted: dict[tuple[str, ...], frozenset[str]] = {}
        self._corrupted_epoch = -1

    def set_epoch(self, epoch: int) -> None:
        """Redraw what training drops; evaluation does not change."""
        self._epoch.fill_(epoch)

    def epoch(self) -> int:
        """The epoch that seeds what training drops."""
        return int(self._epoch)

    def __len__(self) -> int:
        return len(self.split)

    def lengths(self) -> dict[str, Tensor]:
        """Return the number of elements per sample, by modality; 0 where the sample lacks it."""
        return {
            modality: self._token_ends.diff(prepend=torch.zeros(1, dtype=torch.int64))
            if modality == "text"
            else self.split.lengths[modality]
            for modality in self.modalities
        }

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        inputs, masks = {}, {}
        for modality in self.modalities:
            inputs[modality], masks[modality] = self._real(modality, index)
        return {
            "inputs": inputs,
            "masks": masks,
            "keep": self._keep(masks, self._names[index]),
            "labels": self.split.labels[index].item(),
            "index": index,
        }

    def _real(self, modality: str, index: int) -> tuple[Tensor, Tensor]:
        """Return a sample's content and mask; a modality that it lacks becomes one masked frame of zeros."""
        if modality == "text":
            start = int(self._token_ends[index - 1]) if index else 0
            content = self._tokens[start : int(self._token_ends[index])].long()
            mask = torch.ones(len(content), dtype=torch.bool)
        else:
            content = self.split.features[modality][index][: int(self.split.lengths[modality][index])]
            mask = observed(content, self.partly_missing)
            if not mask.all():
                content = torch.where(mask[:, None], content, 0)
        if not len(content):
            return content.new_zeros(1, *content.shape[1:]), torch.zeros(1, dtype=torch.bool)
        return content, mask

    def _keep(self, masks: dict[str, Tensor], name: str) -> dict[str, Tensor]:
        rows = {modality: mask[None] for modality, mask in masks.items()}
        if self.available is not None:
            rows = keep_modalities(rows, self.available)
        elif self.rate is not None:
            rows = drop(rows, self.rate, self.pattern, **self._generators(name))
        else:
            chosen = [modality for modality in rows if name in self._corrupted_names(modality)]
            if chosen:
                corrupted = self._corrupt(rows, self._generators(self.epoch(), name))
                rows |= {modality: corrupted[modality] for modality in chosen}
        return {modality: mask[0] for modality, mask in rows.items()}

    def _corrupt(self, rows: dict[str, Tensor], generators: dict[str, Any]) -> dict[str, Tensor]:
        own, shared = generators["generator"], generators["shared_generator"]
        pattern = self._patterns[int(torch.randint(len(self._patterns), (), generator=shared))]
        if PATTERNS[pattern].across:
            return drop(rows, self._train_rate(shared), pattern, **generators)
        rates = {modality: self._train_rate(own[modality]) for modality in rows}
        return drop(rows, rates, pattern, **generators)

    def _train_rate(self, generator: torch.Generator) -> Tensor:
        drawn = torch.rand((), generator=generator)  # drawn even when unused: later draws must not change
        return drawn if self.train_rate is None else torch.tensor(self.train_rate)

    def _generators(self, *key: int | str) -> dict[str, Any]:
        """Return the arguments of ``drop`` for its draws: a generator per modality, a shared one, and the order."""
        own = {modality: self._generator(*key, modality) for modality in self.modalities}
        return {"generator": own, "shared_generator": self._generator(*key, ""), "order": self.modalities}

    def _corrupted_names(self, modality: str) -> frozenset[str]:
        """Return the samples that this epoch corrupts in a modality: the first ones in hash order."""
        epoch, key = self.epoch(), () if self.corrupt_by == "sample" else (modality,)
        if self._corrupted_epoch != epoch:
            self._corrupted, self._corrupted_epoch = {}, epoch
        if key not in self._corrupted:
            order = sorted(self._names, key=lambda name: _digest(self.seed, epoch, name, *key))
            self._corrupted[key] = frozenset(order[: math.floor(len(order) * self.corrupted_share)])
        return self._corrupted[key]

    def _generator(self, *key: int | str) -> torch.Generator:
        return torch.Generator().manual_seed(_digest(self.seed, *key))


def _digest(*key: int | str) -> int:
    """Hash a key to 63 bits, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1


def _distinct(ids: list[str]) -> list[str]:
    """Append to each id the number of its earlier occurrences."""
    seen: Counter[str] = Counter()
    names = []
    for name in ids:
        names.append(f"{name}#{seen[name]}")
        seen[name] += 1
    return names


def _tokenize(text: Sequence[str | None], tokenizer: Any, max_length: int) -> tuple[Tensor, Tensor]:
    """Return the token ids of all rows, concatenated, and the end of each row."""
    ids, lengths = [torch.empty(0, dtype=torch.int32)], []
    for start in range(0, len(text), _ROWS):
        rows = tokenize(text[start : start + _ROWS], tokenizer, max_length)
        ids.append(torch.tensor([token for row in rows for token in row], dtype=torch.int32))
        lengths += [len(row) for row in rows]
    return torch.cat(ids), torch.tensor(lengths, dtype=torch.int64).cumsum(0)


def _check_kinds(split: Any, tokenizer: Any, modalities: Any, max_lengths: Any, available: Any, seed: Any) -> None:
    for name, value, kinds, what in (
        ("split", split, (Split, ShardedSplit), "a split, e.g. load_data(...)['train']"),
        ("modalities", modalities, Sequence, "a list of names"),
        ("max_lengths", max_lengths, Mapping, "a mapping from modality to maximum number of frames"),
        ("available", available, (Collection, type(None)), "a collection of names, or None"),
        ("seed", seed, Integral, "an int"),
        ("tokenizer", tokenizer, Callable if "text" in (modalities or ()) else object, "a tokenizer, for text"),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"MissingDataset expected {name} to be {what}, got {type(value).__name__}.")
    for name, length in max_lengths.items():
        if not isinstance(length, Integral) or length < 1:
            raise ValueError(f"MissingDataset expected max_lengths[{name!r}] to be an int >= 1, got {length!r}.")


def _check_protocol(
    modalities: Sequence[str],
    rate: float | None,
    available: Collection[str] | None,
    corrupted_share: float,
    corrupt_by: str,
    train_rate: float | None,
) -> None:
    if corrupt_by not in ("sample", "modality"):
        raise ValueError(f"MissingDataset expected corrupt_by to be 'sample' or 'modality', got {corrupt_by!r}.")
    if rate is not None and available is not None:
        raise ValueError(
            f"MissingDataset expected rate or available, or neither for training, got rate={rate} and "
            f"available={tuple(available)}; evaluate one at a time."
        )
    for label, share in (("rate", rate), ("train_rate", train_rate), ("corrupted_share", corrupted_share)):
        if share is None and label != "corrupted_share":
            continue
        if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= share <= 1:
            raise ValueError(
                f"MissingDataset expected {label} in [0, 1], got {share!r}; pass a fraction, not a percentage."
            )
    unknown = set(available or ()) - set(modalities)
    if isinstance(available, str) or unknown:
        raise ValueError(
            f"MissingDataset expected available to be a collection of names from {tuple(modalities)}, got "
            f"{available!r}."
        )


def _check_split(split: Split | ShardedSplit, modalities: Sequence[str], max_lengths: Mapping[str, int]) -> None:
    missing = [modality for modality in modalities if modality not in split.modalities]
    if missing or not modalities or len(set(modalities)) < len(modalities):
        raise DataError(
            f"MissingDataset expected modalities to be distinct names from the split's {split.modalities}, found "
            f"{tuple(modalities)}."
        )
    unbounded = [modality for modality in modalities if modality not in max_lengths]
    if unbounded:
        raise ValueError(
            f"MissingDataset expected max_lengths for {tuple(modalities)}, got {dict(max_lengths)}; add "
            f"{tuple(unbounded)}."
        )
    for modality in modalities:
        if modality == "text":
            continue  # the tokenizer truncates
        too_long = (split.lengths[modality] > max_lengths[modality]).nonzero()
        if len(too_long):
            row = int(too_long[0])
            raise DataError(
                f"MissingDataset expected at most max_lengths[{modality!r}] = {max_lengths[modality]} frames "
                f"of {modality}, found {int(split.lengths[modality][row])} in row {row}; cut them to that number in "
                "the data, or pass a larger maximum."
            )
