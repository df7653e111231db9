"""Self-MM: a task per modality, with labels that training generates from the features of all samples."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from baselines.head import Head
from baselines.masked import check_lengths, first, masked_frames, mean_over
from baselines.recurrent import FinalState

LIMIT = 3.0  # H, of a generated label
TINY = 1e-8  # e, added to divisors
WIDTHS = {"audio": 16}  # of features; those of other modalities have 32
DROPOUT = {"audio": 0.1, "text": 0.1}  # before a modality's own layers


class SelfMmParts(NamedTuple):
    """What training compares; mappings are by modality.

    Attributes:
        fused: features of the multimodal task, ``(B, D)``.
        own: features of the modality's task, ``(B, D_m)``.
        guesses: the modality's own prediction, ``(B, num_outputs)``.
        present: bool ``(B,)``, False where a sample lacks the modality; nothing is learned or stored of it there.
    """

    fused: Tensor
    own: dict[str, Tensor]
    guesses: dict[str, Tensor]
    present: dict[str, Tensor]


class SelfMmOutput(NamedTuple):
    """Output of :class:`SelfMM`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        parts: only in training.
    """

    prediction: Tensor
    parts: SelfMmParts | None = None


class SelfMM(nn.Module):
    """Self-supervised multi-task multimodal learning (Yu et al., AAAI 2021), 0.16 M parameters on MOSI.

    Text is summed up by its first token, other modalities by the final state of an LSTM. These summaries, concatenated,
    are scored by three layers, and each by three layers of its own, in training only. The first of three layers gives a
    task's features, whose means over the samples with positive and with negative labels are the task's centers C^p and
    C^n. With the distances D^p and D^n from them, ``a = (D^n - D^p) / (D^p + e)``. A modality s has no labels of its
    own. They are generated from the multimodal label y and momentum, where i counts the visits of the sample:

        y_s' = (a_s / a_m * y + y + a_s - a_m) / 2, between -3 and 3
        y_s <- (i - 1) / (i + 1) * y_s + 2 / (i + 1) * y_s'

    At first, y_s = y. The loss is ``tanh|y_s - y| |guess - y_s|``, averaged over samples and summed over modalities,
    beside the task's. Features and labels of all samples are buffers, so a checkpoint has them.

    What the paper leaves open is taken from the authors' code: sizes and dropout (of MMSA, for unaligned MOSI), centers
    without samples whose label is 0, and the order of a step: the loss, then new labels, then new features. Labels have
    a sign: 0 is the middle of their scale. Several outputs have labels, centers and distances of their own. Where one
    of two centers has no samples yet, y_s' is y. An absent modality, which the paper does not have, is zeros before
    fusion.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        num_samples: n, the size of the training split.
        dim: width of the multimodal features.
        dims: modality -> width of its features. Default: 16 for audio, 32 for others.

    Example:
        >>> core = SelfMM({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, num_samples=100)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ("own", "memory", "memories")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        num_samples: int = 0,
        dim: int = 128,
        dims: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.max_lengths = {name: max_lengths[name] for name in names}
        widths = {name: WIDTHS.get(name, 32) for name in names} | dict(dims or {})
        summed_up = {name: input_dims[name] if name == "text" else widths[name] for name in names}
        self.recurrent = nn.ModuleDict(
            {name: FinalState(input_dims[name], widths[name]) for name in names if name != "text"}
        )
        self.fused = Task(sum(summed_up.values()), dim, num_outputs)
        self.own = nn.ModuleDict(
            {name: Task(summed_up[name], widths[name], num_outputs, DROPOUT.get(name, 0.0)) for name in names}
        )
        self.memory = Memory(num_samples, dim, num_outputs)
        self.memories = nn.ModuleDict({name: Memory(num_samples, widths[name], num_outputs) for name in names})

    @property
    def head(self) -> nn.Module:
        """The layer that predicts."""
        return self.fused.head

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> SelfMmOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("SelfMM", features, self.max_lengths)
        summaries, present = {}, {}
        for name in self.max_lengths:
            x, mask = masked_frames(features, masks, name)
            present[name] = mask.any(1)
            summaries[name] = first(x, mask) if name == "text" else self.recurrent[name](x, mask)
        fused, prediction = self.fused(torch.cat(list(summaries.values()), dim=-1))
        if not self.training:
            return SelfMmOutput(prediction)
        found = {name: task(summaries[name]) for name, task in self.own.items()}
        own, guesses = ({name: pair[part] for name, pair in found.items()} for part in (0, 1))
        return SelfMmOutput(prediction, SelfMmParts(fused, own, guesses, present))

    def losses(self, parts: SelfMmParts, labels: Tensor, index: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss of the modalities' own predictions.

        Args:
            parts: of a training batch.
            labels: y, ``(B, num_outputs)``.
            index: the samples' places in the training split, int64 ``(B,)``, to look up their generated labels. Without
                it, these are generated anew, without momentum.

        Raises:
            ValueError: A place is not below ``num_samples``.
        """
        if index is not None and int(index.max()) >= (size := len(self.memory.visits)):
            raise ValueError(
                f"SelfMM expected indices below num_samples = {size}, got {int(index.max())}; pass the size of the "
                "training split as num_samples."
            )
        own = self._generate(parts, labels) if index is None else self._look_up(labels, index)
        terms = []
        for name, guess in parts.guesses.items():
            weight = (own[name] - labels).abs().tanh()
            terms.append(mean_over((weight * (guess - own[name]).abs()).mean(1), parts.present[name]))
        return {"unimodal": torch.stack(terms).sum()}

    @torch.no_grad()
    def remember(self, parts: SelfMmParts, labels: Tensor, index: Tensor) -> None:
        """Update the labels of a batch of the training split, then its features; for arguments see :meth:`losses`."""
        new = self._generate(parts, labels)
        old = self._look_up(labels, index)
        for name, memory in self.memories.items():
            visits = memory.visits[index, None] + 1
            share = 2 / (visits + 1)
            moved = torch.where(visits > 1, (1 - share) * old[name] + share * new[name], labels)
            memory.store(index, parts.own[name], moved, parts.present[name])
        present = torch.stack(list(parts.present.values())).any(0)
        self.memory.store(index, parts.fused, labels, present)

    def forget(self, num_samples: int) -> None:
        """Make room for a training split of another size."""
        for memory in (self.memory, *self.memories.values()):
            memory.forget(num_samples)

    def _look_up(self, labels: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return the labels of every modality; those of the whole sample before its first visit."""
        return {
            name: torch.where(memory.visits[index, None] > 0, memory.labels[index], labels)
            for name, memory in self.memories.items()
        }

    @torch.no_grad()
    def _generate(self, parts: SelfMmParts, labels: Tensor) -> dict[str, Tensor]:
        """Return y_s' of every modality."""
        fused, known = self.memory.distances(parts.fused)
        found = {}
        for name, memory in self.memories.items():
            own, known_too = memory.distances(parts.own[name])
            new = (own / (fused + TINY) * labels + labels + own - fused) / 2
            found[name] = torch.where(known & known_too, new.clamp(-LIMIT, LIMIT), labels)
        return found


class Memory(nn.Module):
    """The features and labels that a task has of every training sample.

    Args:
        num_samples: n.
        dim: D, width of the features.
        num_outputs: labels per sample.

    Attributes:
        features, labels, visits: buffers ``(n, D)``, ``(n, num_outputs)`` and ``(n,)``, the last of int64.
    """

    def __init__(self, num_samples: int, dim: int, num_outputs: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_samples, dim))
        self.register_buffer("labels", torch.zeros(num_samples, num_outputs))
        self.register_buffer("visits", torch.zeros(num_samples, dtype=torch.int64))

    def forget(self, num_samples: int) -> None:
        """Become empty, with room for ``num_samples``."""
        for name, part in list(self.named_buffers()):
            setattr(self, name, part.new_zeros(num_samples, *part.shape[1:]))

    def distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a, ``(B, num_outputs)``, for features ``(B, D)``, and which outputs have both centers."""
        known, found = [], []
        for chosen in (self.labels > 0, self.labels < 0):  # those without a visit are 0
            with torch.autocast(x.device.type, enabled=False):
                shares = chosen.to(self.features.dtype) / chosen.sum(0).clamp(min=1)
                centers = shares.mT @ self.features
            found.append(torch.linalg.vector_norm(x.to(centers.dtype)[:, None] - centers, dim=-1))
            known.append(chosen.any(0))
        near, far = found
        return (far - near) / (near + TINY), known[0] & known[1]

    def store(self, index: Tensor, features: Tensor, labels: Tensor, present: Tensor) -> None:
        """Replace what is known of the samples at ``index`` ``(B,)``, where ``present`` ``(B,)``."""
        index = index[present]
        self.features[index] = features[present].to(self.features.dtype)
        self.labels[index] = labels[present].to(self.labels.dtype)
        self.visits[index] = self.visits[index] + 1  # a sample that is in a batch twice counts once


class Task(nn.Module):
    """Three linear layers, of which the first gives features."""

    def __init__(self, in_dim: int, dim: int, num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_dim, dim), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(dim, dim), nn.ReLU())
        self.head = Head(dim, num_outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``(B, D)`` and outputs ``(B, num_outputs)``."""
        features = self.enter(x)
        return features, self.head(self.hidden(features))
