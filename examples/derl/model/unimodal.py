"""UnimodalHeads: each modality answers by itself, so that none is left untrained where another one is easier."""

import torch
from torch import Tensor, nn

from derl.model.masks import Features


class UnimodalHeads(nn.Module):
    """A linear head per modality on the mean of its tokens.

    Args:
        modalities: names of the modalities.
        dim: D, width of a token.
        num_outputs: outputs of each head.
    """

    def __init__(self, modalities: list[str], dim: int, num_outputs: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(dim, num_outputs) for name in sorted(modalities)})

    def forward(self, means: Features) -> Features:
        """Return the outputs ``(B, num_outputs)`` of each modality from its mean token ``(B, D)``, without autocast."""
        first = next(iter(means.values()))
        with torch.autocast(first.device.type, enabled=False):
            return {name: self.heads[name](part.to(self.heads[name].weight.dtype)) for name, part in means.items()}


def average(parts: Features, masks: Features) -> Tensor:
    """Return the mean ``(B, ...)`` of parts over the modalities that are present; zeros where none is."""
    there = torch.stack([masks[name].any(1) for name in parts])
    weights = there.unflatten(1, (-1, *[1] * (next(iter(parts.values())).ndim - 1)))
    total = torch.where(weights, torch.stack(list(parts.values())), 0).sum(0)
    return total / weights.sum(0).clamp(min=1)
