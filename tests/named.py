"""Blocks and losses of named modalities: how to build them, and how to run them on three mappings."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from modx import (
    BottleneckEncoder,
    Disentangled,
    HybridExpertDisentangler,
    MissingModalityFusion,
    ModalityRouter,
    MultiLevelReconstructor,
    Reconstruction,
)
from modx.losses import load_balance, orthogonality_loss, reconstruction_loss

NAMES = ("text", "audio", "vision")


def sequences(kind: type[nn.Module], names=NAMES, **kwargs) -> nn.Module:
    widths = dict.fromkeys(names, 4)
    lengths = dict.fromkeys(reversed(names), 5)
    return kind(widths, 4, num_tokens=2, num_heads=2, head_dim=2, max_lengths=lengths, **kwargs)


MODULES = {
    "BottleneckEncoder": partial(sequences, BottleneckEncoder),
    "HybridExpertDisentangler": lambda names=NAMES, **kw: HybridExpertDisentangler(names, 4, 5, **kw),
    "MultiLevelReconstructor": lambda names=NAMES, **kw: MultiLevelReconstructor(names, 4, 5, **kw),
    "ModalityRouter": lambda names=NAMES, **kw: ModalityRouter(names, 4, 5, **kw),
    "MissingModalityFusion": partial(sequences, MissingModalityFusion),
}
LOSSES = ("orthogonality_loss", "reconstruction_loss", "load_balance")


def make(name: str, **kwargs) -> nn.Module | None:
    torch.manual_seed(0)
    return MODULES[name](**kwargs) if name in MODULES else None


def draw(names=NAMES, seed=0, dtype=torch.float32) -> list[dict[str, Tensor]]:
    """Three mappings; a modality's values do not depend on the order of the names."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [{name: torch.randn(4, 3, 4, generator=generator).to(dtype) for name in NAMES} for _ in range(3)]
    return [{name: part[name] for name in names} for part in drawn]


def run(name: str, module: nn.Module | None, parts: list[dict], present: dict | None = None) -> tuple:
    """Everything that a module or a loss gives for three mappings."""
    features, private, shared = parts
    views = Disentangled(private, shared, {})
    if name == "load_balance":
        return (load_balance(features, present),)
    if name == "orthogonality_loss":
        return (orthogonality_loss(views, present=present),)
    if name == "reconstruction_loss":
        rebuilt = Reconstruction(private, shared, features, shared)
        return tuple(reconstruction_loss(rebuilt, features, views, present=present))
    if name == "MultiLevelReconstructor":
        return tuple(module(features, views, present))
    if name == "ModalityRouter":
        return tuple(module(private, shared, present=present))
    result = module(features, present)
    return (result,) if isinstance(result, dict) else tuple(result)


def by_path(result: tuple) -> dict[str, Tensor]:
    return {keystr(path): part for path, part in tree_flatten_with_path(result)[0]}
