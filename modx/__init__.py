"""Mixture-of-experts blocks, missing-data patterns and losses for multimodal models with missing inputs."""

from . import losses, missing, ops
from .collate import collate
from .disentangle import Disentangled, HybridExpertDisentangler
from .encode import BottleneckEncoder
from .experts import Experts
from .fusion import Fused, ModalityRouter
from .model import FusionLosses, FusionOutput, MissingModalityFusion
from .reconstruct import MultiLevelReconstructor, Reconstruction
from .router import Router
from .transformer import TransformerBlock, TransformerEncoder

__version__ = "0.1.0"

__all__ = [
    "MissingModalityFusion",
    "FusionOutput",
    "FusionLosses",
    "collate",
    "BottleneckEncoder",
    "HybridExpertDisentangler",
    "Disentangled",
    "MultiLevelReconstructor",
    "Reconstruction",
    "ModalityRouter",
    "Fused",
    "TransformerBlock",
    "TransformerEncoder",
    "Experts",
    "Router",
    "losses",
    "missing",
    "ops",
]
