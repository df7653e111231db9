"""CENET: inside the text's encoder, every word takes up what other modalities show anywhere in their sequences."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.head import Head
from baselines.masked import check_lengths, first, first_at_least, hide, masked_frames

Enhance = Callable[[Tensor], Tensor]  # states (B, T, D) -> states with what other modalities add


class CenetOutput(NamedTuple):
    """Output of :class:`CENET`.

    Attributes:
        prediction: ``(B, num_outputs)``.
    """

    prediction: Tensor


class CENET(nn.Module):
    """Cross-modal enhancement network (Wang et al., IEEE TMM 2022), 6.52 M parameters on MOSI beside the encoder's.

    Ahead of one layer of the dominant modality's encoder, its states S become S + W [A_1; A_2; ...], where A_m is
    attention from S to all frames of another modality, which two linear layers made as wide as S. The final state of
    the first token is scored by two layers.

    Written after the paper's abstract, the authors' code and that of MMSA. The paper clusters the frames of a modality
    and learns a vector per cluster; the two linear layers are MMSA's, as a frame that is erased belongs to no cluster.
    Attention is scaled by 1 / sqrt(D); both codes multiply its scores by 8. Both attend to padding; here masked frames
    are not attended to. The encoder of both also takes the sentiment of words from a lexicon; this one takes none.
    Where a sample lacks the dominant modality, one row stands in for it, so that the others are read.

    Args:
        input_dims: features per frame, for each modality; of the dominant one, the width of its encoder's states.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dominant: the modality whose encoder's states are enhanced.
        dropout: ahead of both layers of the head.

    Example:
        >>> core = CENET({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dominant="text")
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ()

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dominant: str,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.dominant = dominant
        self.max_lengths = {name: max_lengths[name] for name in names}
        dim, others = input_dims[dominant], [name for name in names if name != dominant]
        self.transforms = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(input_dims[name], dim), nn.ReLU(), nn.Linear(dim, dim)) for name in others}
        )
        self.attend = nn.ModuleDict({name: Attention(dim) for name in others})
        self.shift = nn.Linear(len(others) * dim, dim) if others else None
        self.hidden = nn.Sequential(nn.Dropout(dropout), nn.Linear(dim, dim), nn.Tanh(), nn.Dropout(dropout))
        self.head = Head(dim, num_outputs)

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor] | None = None,
        encode: Callable[[Enhance], Tensor] | None = None,
    ) -> CenetOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Args:
            encode: runs the dominant modality's encoder, which calls its argument once, on the states to enhance, and
                returns the final states ``(B, T, D)``. The features of that modality are then not read. Default: there
                is no encoder, and these features are its states.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("CENET", features, self.max_lengths)
        given = {name: masked_frames(features, masks, name) for name in features if name != self.dominant}
        given = {name: (self.transforms[name](x), mask) for name, (x, mask) in given.items()}

        def enhance(states: Tensor) -> Tensor:
            found = [attend(states, *given[name]) for name, attend in self.attend.items()]
            return states if self.shift is None else states + self.shift(torch.cat(found, dim=-1))

        text = features[self.dominant]
        mask = text.new_ones(text.shape[:2], dtype=torch.bool) if masks is None else masks[self.dominant]
        states = enhance(hide(text, mask)) if encode is None else encode(enhance)
        return CenetOutput(self.head(self.hidden(first(states, first_at_least(mask)))))


class Attention(nn.Module):
    """Attention of one head from states to the unmasked frames of another sequence; zeros where there are none."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``(B, T, D)`` to the frames ``(B, L, D)`` where the mask ``(B, L)`` is True."""
        anything = mask.any(1)[:, None, None]
        shown = mask[:, None] | ~anything  # attention over nothing would be NaN
        found = F.scaled_dot_product_attention(self.query(x), self.key(source), self.value(source), attn_mask=shown)
        return torch.where(anything, found, 0)
