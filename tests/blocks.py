"""Every block of the library, how to build it and what to call it with."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from modx import (
    BottleneckEncoder,
    Disentangled,
    Experts,
    Fused,
    HybridExpertDisentangler,
    MissingModalityFusion,
    ModalityRouter,
    MultiLevelReconstructor,
    Router,
    TransformerBlock,
    TransformerEncoder,
)

MODALITIES = ("two words", "a")
HEADS = {"num_heads": 2, "head_dim": 4}


class FirstRows(nn.Module):
    """An encoder of which the first rows alone are wanted, as a module of positional arguments."""

    def __init__(self, **kwargs) -> None:
        super().__init__()
        self.encoder = TransformerEncoder(8, 2, **HEADS, **kwargs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(x, mask, num_queries=2)


class Fusion(nn.Module):
    """A modality router as a module of positional arguments."""

    def __init__(self, **kwargs) -> None:
        super().__init__()
        self.fuse = ModalityRouter(MODALITIES, 8, 5, **kwargs)

    def forward(self, private: dict[str, Tensor], shared: dict[str, Tensor], present: dict[str, Tensor]) -> Fused:
        return self.fuse(private, shared, present=present)


@dataclass(frozen=True)
class Block:
    """How to build a block, and what to call it with for a batch size."""

    build: Callable[..., nn.Module]
    inputs: Callable[[int], tuple]
    negligible: float = 0.01  # norm of a gradient that autocast may get wrong


def features(batch_size: int) -> dict[str, Tensor]:
    return {name: torch.randn(batch_size, n, 8) for n, name in enumerate(MODALITIES, start=3)}


def views(batch_size: int) -> Disentangled:
    return Disentangled(*(features(batch_size) for _ in Disentangled._fields))


def some(*shape: int) -> Tensor:
    return torch.rand(shape) > 0.4


def present(batch_size: int) -> dict[str, Tensor]:
    return {name: some(batch_size) for name in MODALITIES}


def sequences(batch_size: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    inputs = {"two words": torch.randn(batch_size, 5, 3), "a": torch.randn(batch_size, 6, 2)}
    return inputs, {name: some(*part.shape[:2]) for name, part in inputs.items()}


def dropped(batch_size: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    inputs, masks = sequences(batch_size)
    return inputs, masks, {name: some(*mask.shape) for name, mask in masks.items()}


def fusion(**kwargs) -> MissingModalityFusion:
    lengths = {"two words": 5, "a": 7}
    return MissingModalityFusion({"two words": 3, "a": 2}, 8, num_tokens=2, max_lengths=lengths, **HEADS, **kwargs)


BLOCKS = {
    "Router": Block(lambda **kw: Router(8, 3, **kw), lambda b: (torch.randn(b, 4, 8), some(b, 4, 3))),
    "Router of two layers": Block(lambda **kw: Router(8, 3, hidden_dim=5, **kw), lambda b: (torch.randn(b, 4, 8),)),
    "Experts": Block(lambda **kw: Experts(3, 8, 5, 2, **kw), lambda b: (torch.randn(b, 4, 8), torch.rand(b, 4, 3))),
    "HybridExpertDisentangler": Block(
        lambda **kw: HybridExpertDisentangler(MODALITIES, 8, 5, num_private_experts=2, **kw),
        lambda b: (features(b), present(b)),
    ),
    "HybridExpertDisentangler without private experts": Block(
        lambda **kw: HybridExpertDisentangler(MODALITIES, 8, 5, num_private_experts=0, **kw),
        lambda b: (features(b),),
    ),
    "MultiLevelReconstructor": Block(
        lambda **kw: MultiLevelReconstructor(MODALITIES, 8, 5, **kw), lambda b: (features(b), views(b), present(b))
    ),
    "ModalityRouter": Block(
        Fusion, lambda b: (*({name: torch.randn(b, 4, 8) for name in MODALITIES} for _ in range(2)), present(b))
    ),
    "TransformerBlock": Block(
        lambda **kw: TransformerBlock(8, **HEADS, **kw), lambda b: (torch.randn(b, 6, 8), some(b, 6))
    ),
    "TransformerEncoder": Block(
        lambda **kw: TransformerEncoder(8, 2, **HEADS, **kw), lambda b: (torch.randn(b, 6, 8), some(b, 6))
    ),
    "first rows of a TransformerEncoder": Block(FirstRows, lambda b: (torch.randn(b, 6, 8), some(b, 6))),
    "BottleneckEncoder": Block(
        lambda **kw: BottleneckEncoder(
            {"two words": 3, "a": 2}, 8, num_tokens=2, depth=2, max_lengths={"two words": 5, "a": 7}, **HEADS, **kw
        ),
        sequences,
    ),
    "BottleneckEncoder of one block": Block(
        lambda **kw: BottleneckEncoder(
            {"two words": 3, "a": 2}, 8, num_tokens=2, max_lengths={"two words": 5, "a": 7}, **HEADS, **kw
        ),
        lambda b: sequences(8 * b),  # enough samples for folded frames, where nothing forbids them
    ),
    # attention after fusion is nearly uniform at first: of a gradient of norm 1800 its queries and keys have some 0.1
    "MissingModalityFusion": Block(fusion, dropped, negligible=0.15),
    "MissingModalityFusion of absent modalities": Block(
        lambda **kw: fusion(dropped_modality="absent", **kw), dropped, negligible=0.15
    ),
}
every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
