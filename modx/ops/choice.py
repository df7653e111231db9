"""Which implementation runs a call, and why."""

from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._checks import check_choice
from .chip import exact_float32, find_chip, interpreted
from .forms import fits_fused

_HAS_TRITON = find_spec("triton") is not None  # looked for, not imported
IMPLEMENTATIONS = ("auto", "reference", "eager", "triton")


class Choice(NamedTuple):
    """The implementation that runs, and the reason in a sentence."""

    implementation: str
    reason: str

    def __str__(self) -> str:
        return f"{self.implementation}: {self.reason}"


# Where the kernels pay is a model of memory traffic and registers: no GPU has measured it yet.
MODELLED = "(modelled, not measured)"
FUSED = f"fused kernels, no hidden layer in memory in the forward pass {MODELLED}"
WIDE = f"activation and gates fused into the first product, the vendor's for the rest {MODELLED}"
UNFUSED_FLOAT32 = f"float32 gains from the fused kernels alone, and they take no such width or experts {MODELLED}"


def choose(implementation: str, x: Tensor, w2: Tensor, dtype: torch.dtype, num_private: int, num_shared: int) -> Choice:
    """Choose for tokens ``x`` computed in ``dtype``."""
    check_choice("expert_mixture", "implementation", implementation, IMPLEMENTATIONS)
    if implementation in ("reference", "eager"):
        return Choice(implementation, "asked for by name")
    obstacle = _obstacle(x.device, dtype, interpreter=implementation == "triton" and interpreted())
    if implementation == "triton":
        if obstacle is not None:
            raise ValueError(f"expert_mixture cannot run implementation='triton': {obstacle}; use 'auto' or 'eager'.")
        return Choice("triton", "asked for by name")
    if obstacle is not None:
        return Choice("eager", obstacle)
    if dtype == torch.float32 and exact_float32():
        return Choice("eager", "exact float32 uses no matrix units in the kernels; the vendor's products are faster")
    if fits_fused(x.shape[1], w2.shape[2], num_private, num_shared, dtype.itemsize, exact=False):
        return Choice("triton", FUSED)
    return Choice("eager", UNFUSED_FLOAT32) if dtype == torch.float32 else Choice("triton", WIDE)


def _obstacle(device: torch.device, dtype: torch.dtype, interpreter: bool) -> str | None:
    """What keeps the kernels from running; None: nothing does."""
    if device.type != "cuda" and not (device.type == "cpu" and interpreter):
        return f"the kernels need a GPU, and x is on {device.type}"
    if not _HAS_TRITON:
        return "Triton is not installed"
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the kernels take float16, bfloat16 and float32, not {str(dtype).removeprefix('torch.')}"
    if device.type == "cpu" and dtype == torch.bfloat16:
        return "Triton's interpreter computes bfloat16 wrongly"
    if transformed():
        return "the kernels have no derivatives for torch.func or forward mode"
    if find_chip(device).family is None:
        return f"the kernels have no tiles for {torch.cuda.get_device_name(device)}"
    return None


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which need a derivative of every step."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
