"""Which implementation runs a call, and why."""

from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from .chip import exact_float32, find_chip, interpreted

_HAS_TRITON = find_spec("triton") is not None  # looked for, not imported
IMPLEMENTATIONS = ("auto", "reference", "eager", "triton")


class Choice(NamedTuple):
    """The implementation that runs, and the reason in a sentence."""

    implementation: str
    reason: str

    def __str__(self) -> str:
        return f"{self.implementation}: {self.reason}"


class Row(NamedTuple):
    """What ``auto`` runs on a GPU up to a width of tokens; None: any."""

    max_width: int | None
    implementation: str
    reason: str


# Where the kernels pay, by a model of memory traffic and registers: no GPU has measured it yet. In float32 through
# tf32 a fused tile needs twice the room, hence half the width.
MODELLED = "(modelled, not measured)"
TABLE = {
    2: (
        Row(256, "triton", f"fused kernels, hidden layer never in memory {MODELLED}"),
        Row(
            None, "triton", f"activation and weights fused into the first product, the vendor's for the rest {MODELLED}"
        ),
    ),
    4: (
        Row(128, "triton", f"fused kernels in tf32, hidden layer never in memory {MODELLED}"),
        Row(None, "eager", f"float32 wider than 128 gains nothing from the kernels {MODELLED}"),
    ),
}


def choose(implementation: str, x: Tensor, w2: Tensor, dtype: torch.dtype) -> Choice:
    """Choose for tokens ``x`` computed in ``dtype``."""
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"expert_mixture expected implementation to be one of {IMPLEMENTATIONS}, got {implementation!r}."
        )
    if implementation in ("reference", "eager"):
        return Choice(implementation, "asked for by name")
    obstacle = _obstacle(x.device, dtype)
    if implementation == "triton":
        if obstacle is not None:
            raise ValueError(f"expert_mixture cannot run implementation='triton': {obstacle}; use 'auto' or 'eager'.")
        return Choice("triton", "asked for by name")
    if obstacle is not None:
        return Choice("eager", obstacle)
    if x.device.type == "cpu":
        return Choice("eager", "on a CPU Triton's interpreter is for tests; ask for it by name")
    if dtype == torch.float32 and exact_float32():
        return Choice("eager", "exact float32 uses no matrix units in the kernels; the vendor's products are faster")
    width = max(x.shape[1], w2.shape[2])
    for row in TABLE[dtype.itemsize]:
        if row.max_width is None or width <= row.max_width:
            return Choice(row.implementation, row.reason)
    raise AssertionError("the last row of a table takes any width")


def _obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """What keeps the kernels from running; None: nothing does."""
    if device.type != "cuda" and not (device.type == "cpu" and interpreted()):
        return f"the kernels need a GPU, and x is on {device.type}"
    if not _HAS_TRITON:
        return "Triton is not installed"
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the kernels take float16, bfloat16 and float32, not {str(dtype).removeprefix('torch.')}"
    if device.type == "cpu" and dtype == torch.bfloat16:
        return "Triton's interpreter computes bfloat16 wrongly"
    if find_chip(device).family is None:
        return f"the kernels have no tiles for {torch.cuda.get_device_name(device)}"
    return None
