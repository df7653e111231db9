"""LateFusion: every view answers by itself."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from digits.missing import everything
from digits.views import NUM_CLASSES, SHAPES, Views
from modx import BottleneckEncoder

BLOCK = {"num_heads": 8, "head_dim": 16}  # of every transformer block


class LateFusion(nn.Module):
    """A head and a loss per view; the answer is the mean of the heads' over the views that are present.

    Without the loss of its own, a view that is harder to read than the others would hardly be learned.
    """

    def __init__(self, dim: int = 48, num_tokens: int = 4) -> None:
        super().__init__()
        self.encode = BottleneckEncoder(
            {name: features for name, (_, features) in SHAPES.items()},
            dim,
            num_tokens=num_tokens,
            depth=2,
            max_lengths={name: frames for name, (frames, _) in SHAPES.items()},
            **BLOCK,
        )
        for positions in self.encode.positions.values():
            nn.init.normal_(positions, std=0.3)  # large: a row's position is as informative as its content
        self.heads = nn.ModuleDict({name: nn.Linear(dim, NUM_CLASSES) for name in SHAPES})

    def forward(self, views: Views, keep: dict[str, Tensor]) -> Tensor:
        """Return logits ``(B, classes)``; frames where ``keep`` ``(B, frames)`` is False are never read."""
        tokens, present = self.encode(views, keep), _present(keep)
        return _average(self._answers(tokens), present) + self.fused(tokens, present)[0]

    def loss(self, views: Views, keep: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the cross-entropies of the answer and of every view, and what :meth:`fused` adds.

        The complete and the incomplete input are one batch, in this order.
        """
        both = {name: torch.cat([mask, keep[name]]) for name, mask in everything(views).items()}
        tokens, present = (
            self.encode({name: torch.cat([view, view]) for name, view in views.items()}, both),
            _present(both),
        )
        answers, twice = self._answers(tokens), labels.repeat(2)
        fused, extra = self.fused(tokens, present)
        each = torch.stack([F.cross_entropy(part, twice, reduction="none") for part in answers.values()])
        there = torch.stack(list(present.values()))
        own = (each * there).sum() / there.sum()
        return F.cross_entropy(_average(answers, present) + fused, twice) + own + extra

    def fused(self, tokens: Views, present: dict[str, Tensor]) -> tuple[Tensor | float, Tensor | float]:
        """Return what is added to the mean answer, and what is added to the loss."""
        return 0.0, 0.0

    def _answers(self, tokens: Views) -> dict[str, Tensor]:
        return {name: head(tokens[name].mean(1)) for name, head in self.heads.items()}


def _present(keep: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: keep[name].any(1) for name in SHAPES}


def _average(answers: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
    """Average over the views that are present; zeros where none is."""
    total = sum(part * present[name][:, None] for name, part in answers.items())
    return total / sum(present.values()).clamp(min=1)[:, None]
