"""LNLN: correct a dominant modality by a proxy made from the others, then let it guide the fusion."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.head import Head
from baselines.hyper import CrossBlock, HyperLayer, Positions, TokenEncoder
from baselines.masked import check_lengths, hide, mean_over

WEIGHTS = {"completeness": 0.9, "adversarial": 0.8, "reconstruction": 0.1}  # of the losses, beside 1 for the task's


class LnlnOutput(NamedTuple):
    """Output of :class:`LNLN`.

    Attributes:
        prediction: ``(B, num_outputs)``.
        completeness: w, ``(B,)``, the estimated share of the dominant modality that is left; 0 where it is absent.
        proxy: ``(B, N, D)``, the dominant modality as the others suggest it.
        tokens: modality -> ``(B, N, D)``.
        rebuilt: modality -> ``(B, N, D)``, the reconstructor's guess of the complete input's tokens; only in training.
    """

    prediction: Tensor
    completeness: Tensor
    proxy: Tensor
    tokens: dict[str, Tensor]
    rebuilt: dict[str, Tensor]


class LNLN(nn.Module):
    """Language-dominated noise-resistant learning network (Zhang et al., NeurIPS 2024), 6.48 M parameters on MOSI.

    Each modality is encoded into N tokens H_m. The dominant one is corrected (DMC): with the estimated completeness w
    and the proxy H_p, generated from the tokens of the others, H_d = w H_l + (1 - w) H_p. A discriminator tells H_p
    from the complete dominant modality, through a gradient reversal. Then (DMML) every layer of H_d is the query of an
    attention to each other modality, whose results add up in the hyper-modality; H_d attends to it and is scored.

    What the paper leaves open is taken from the authors' code: all sizes and loss weights, N(0, 1) positions, tokens of
    zeros (ones for the proxy and the hyper-modality), the hyper-modality's residual from its normalized value, a mean
    over tokens before the head. Three things differ from that code. Masked frames are not attended to; there, padding
    is. The reversal acts on the discriminator's loss only; there, it sits before the correction and also reverses
    the gradient of the task, and the discriminator reads H_d. The target of w is the share of real elements that are
    kept; there, it is 1 minus the rate that they were drawn with.

    Args:
        input_dims: features per frame, for each modality.
        max_lengths: maximum number of frames per modality.
        num_outputs: scores, or classes.
        dominant: the dominant modality.
        dim: D, width of a token.
        num_tokens: N, tokens per modality.
        depth: transformer blocks per encoder; the hyper-modality has one layer more.
        num_heads, head_dim: attention heads and the width of each.

    Example:
        >>> core = LNLN({"text": 8, "audio": 5}, {"text": 9, "audio": 20}, 1, dominant="text", dim=16, num_heads=2)
        >>> core({"text": torch.randn(2, 9, 8), "audio": torch.randn(2, 20, 5)}).prediction.shape
        torch.Size([2, 1])
    """

    training_parts = ("discriminator", "reconstructors")  # a trained model works without them

    def __init__(
        self,
        input_dims: Mapping[str, int],
        max_lengths: Mapping[str, int],
        num_outputs: int,
        *,
        dominant: str,
        dim: int = 128,
        num_tokens: int = 8,
        depth: int = 2,
        num_heads: int = 8,
        head_dim: int = 64,
    ) -> None:
        super().__init__()
        names = sorted(input_dims)
        self.dominant = dominant
        self.max_lengths = {name: max_lengths[name] for name in names}
        self.others = [name for name in names if name != dominant] or [dominant]
        sizes = {"dim": dim, "depth": depth, "num_heads": num_heads, "head_dim": head_dim}
        self.projections = nn.ModuleDict({name: nn.Linear(input_dims[name], dim) for name in names})
        self.encoders = nn.ModuleDict(
            {name: TokenEncoder(max_lengths[name], num_tokens=num_tokens, **sizes) for name in names}
        )
        self.checker = TokenEncoder(num_tokens, num_tokens=1, **sizes)
        self.completeness = nn.Sequential(
            nn.Linear(dim, dim // 2), nn.LeakyReLU(0.1), nn.Linear(dim // 2, 1), nn.Sigmoid()
        )
        self.proxy_seed = nn.Parameter(torch.empty(num_tokens, dim))
        self.hyper_seed = nn.Parameter(torch.empty(num_tokens, dim))
        self.generator = TokenEncoder((1 + len(self.others)) * num_tokens, num_tokens=num_tokens, **sizes)
        self.discriminator = nn.Sequential(nn.Linear(dim, dim // 2), nn.LeakyReLU(0.1), nn.Linear(dim // 2, 2))
        self.reconstructors = nn.ModuleDict({name: TokenEncoder(num_tokens, **sizes) for name in names})
        self.dominant_encoder = TokenEncoder(num_tokens, **sizes)
        self.hyper = nn.ModuleList(HyperLayer(self.others, dim, num_heads) for _ in range(depth + 1))
        self.source = Positions(num_tokens, dim, num_tokens=1)
        self.target = Positions(num_tokens, dim)
        self.cross = nn.ModuleList(CrossBlock(dim, num_heads, head_dim) for _ in range(depth))
        self.head = Head(dim, num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reinitialize the parameters that no submodule holds."""
        nn.init.ones_(self.proxy_seed)
        nn.init.ones_(self.hyper_seed)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> LnlnOutput:
        """Predict from features ``(B, L_m, D_m)``; masks ``(B, L_m)`` are True where a frame may be read.

        Raises:
            ValueError: A sequence is too long.
        """
        check_lengths("LNLN", features, self.max_lengths)
        masks = {} if masks is None else masks
        tokens = {}
        for name, encoder in self.encoders.items():
            mask = masks.get(name)
            tokens[name] = encoder(self.projections[name](hide(features[name], mask)), mask)
        dominant, others = tokens[self.dominant], [tokens[name] for name in self.others]
        completeness = self.completeness(self.checker(dominant)[:, 0]).squeeze(-1)
        if self.dominant in masks:
            completeness = torch.where(masks[self.dominant].any(1), completeness, 0)
        proxy, hyper = (seed.expand(dominant.shape[0], -1, -1) for seed in (self.proxy_seed, self.hyper_seed))
        proxy = self.generator(torch.cat([proxy.to(dominant.dtype), *others], dim=1))
        share = completeness[:, None, None]
        layers = self.dominant_encoder.layers(share * dominant + (1 - share) * proxy)
        for attend, layer in zip(self.hyper, layers, strict=True):
            hyper = attend(hyper, layer, {name: tokens[name] for name in self.others})
        source, fused = self.source(hyper), self.target(layers[-1])
        for block in self.cross:
            fused = block(fused, source)
        rebuilt = {}
        if self.training:
            rebuilt = {name: rebuild(tokens[name]) for name, rebuild in self.reconstructors.items()}
        return LnlnOutput(self.head(fused.mean(1)), completeness, proxy, tokens, rebuilt)

    def losses(
        self,
        output: LnlnOutput,
        complete: Mapping[str, Tensor],
        kept: Tensor,
        present: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the three losses beside the task's, each times its weight.

        Args:
            output: of the incomplete input.
            complete: modality -> tokens ``(B, N, D)`` of the complete input.
            kept: ``(B,)``, share of the dominant modality's real elements that were kept.
            present: modality -> bool ``(B,)``, False where a sample never had the modality; it is no target there.

        Returns:
            completeness: mean (w - kept)²; adversarial: cross-entropy of the discriminator over tokens; reconstruction:
            mean squared error of ``output.rebuilt``.
        """
        real, given = present[self.dominant], torch.stack([present[name] for name in self.others]).any(0)
        samples = torch.cat([reverse_gradient(output.proxy), complete[self.dominant]])
        guesses = self.discriminator(samples).flatten(0, 1)
        is_proxy = torch.arange(len(samples), device=kept.device) < len(kept)
        targets = is_proxy.long().repeat_interleave(samples.shape[1])
        errors = F.cross_entropy(guesses.float(), targets, reduction="none").view(samples.shape[:2]).mean(1)
        distances = [F.mse_loss(output.rebuilt[name], complete[name], reduction="none") for name in output.rebuilt]
        parts = {
            "completeness": mean_over((output.completeness - kept).square(), real),
            "adversarial": mean_over(errors, torch.cat([given, real])),
            "reconstruction": mean_over(
                torch.cat([part.mean((1, 2)) for part in distances]),
                torch.cat([present[name] for name in output.rebuilt]),
            ),
        }
        return {name: WEIGHTS[name] * part for name, part in parts.items()}


def reverse_gradient(x: Tensor) -> Tensor:
    """Return x, whose gradient changes its sign on the way back (Ganin and Lempitsky, 2015)."""
    return 2 * x.detach() - x
