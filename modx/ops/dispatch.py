"""Choose the implementation that runs a mixture, its compute dtype and the GPU that its kernels target."""

import os
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import autocasts, check, check_choice, check_type
from .._ordinary import transformed
from .activations import ACTIVATIONS
from .mixture import OP, Mixture

IMPLEMENTATIONS = ("auto", "reference", "eager", "triton")
_HAS_TRITON = find_spec("triton") is not None  # found without importing it


class Choice(NamedTuple):
    """The implementation that runs, and the reason."""

    implementation: str
    reason: str

    def __str__(self) -> str:
        return f"{self.implementation}: {self.reason}"


# A model of memory traffic and registers decides where the kernels pay off. No GPU has measured it yet.
_MODELED = "(modeled, not measured)"
FUSED = f"fused kernels, no hidden layer in memory in the forward pass {_MODELED}"
WIDE = f"activation and router weights fused into the first matmul, cuBLAS for the rest {_MODELED}"
UNFUSED_FLOAT32 = (
    f"only the fused kernels help float32, and they do not support this width or number of experts {_MODELED}"
)
EXACT_FLOAT32 = "exact float32 cannot use tensor cores in these kernels; cuBLAS is faster"


def choose(mixture: Mixture, dtype: torch.dtype, implementation: str, least_memory: bool = False) -> Choice:
    """Choose an implementation for a mixture computed in ``dtype``."""
    check_type(OP, bool, least_memory=least_memory)
    check_choice(OP, IMPLEMENTATIONS, implementation=implementation)
    fits = not least_memory or implementation != "reference"
    expected = "least_memory=False with implementation='reference', which saves all it computes"
    check(fits, OP, expected, True, "use implementation='eager'")
    if implementation in ("reference", "eager"):
        return Choice(implementation, "asked for by name")
    obstacle = _obstacle(
        mixture.x.device, dtype, mixture.activation, interpreter=implementation == "triton" and interpreted()
    )
    if implementation == "triton":
        if obstacle is not None:
            raise ValueError(f"expert_mixture cannot run implementation='triton': {obstacle}; use 'auto' or 'eager'.")
        return Choice("triton", "asked for by name")
    if obstacle is not None:
        return Choice("eager", obstacle)
    if dtype == torch.float32 and exact_float32():
        return Choice("eager", EXACT_FLOAT32)
    if fits_fused(mixture, dtype, exact=False):
        return Choice("triton", FUSED)
    return Choice("eager", UNFUSED_FLOAT32) if dtype == torch.float32 else Choice("triton", WIDE)


def _obstacle(device: torch.device, dtype: torch.dtype, activation: str, interpreter: bool) -> str | None:
    """Return the reason why the kernels cannot run, or None if they can."""
    if device.type != "cuda" and not (device.type == "cpu" and interpreter):
        return f"the kernels need a GPU, and x is on {device.type}"
    if not _HAS_TRITON:
        return "Triton is not installed"
    if ACTIVATIONS[activation].kernel_word is None:
        return f"the kernels have no activation {activation!r}"
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the kernels take float16, bfloat16 and float32, not {str(dtype).removeprefix('torch.')}"
    if device.type == "cpu" and dtype == torch.bfloat16:
        return "Triton's interpreter computes bfloat16 wrongly"
    if transformed():
        return "the kernels have no derivatives for torch.func or forward mode"
    if find_arch(device).family is None:
        return f"the kernels have no tiles for {torch.cuda.get_device_name(device)}"
    return None


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of the matmuls: the dtype of the tokens, or autocast's."""
    device = x.device.type
    if autocasts(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def exact_float32() -> bool:
    """Whether float32 matmuls must not use TF32, as after ``torch.set_float32_matmul_precision("highest")``."""
    if torch.compiler.is_compiling():  # the compiler can trace only the older name of this setting
        return not torch.backends.cuda.matmul.allow_tf32
    precision: str = torch.backends.cuda.matmul.fp32_precision
    return precision != "tf32"


MAX_WIDTH = {2: 256, 4: 128}  # by bytes per element: the accumulators of a wider tile do not fit in registers


def max_experts(width: int) -> int:
    """Return the most experts per bank for the fused kernels, which keep gradients of router weights in registers."""
    return 8 if width <= 128 else 4


def fits_fused(mixture: Mixture, dtype: torch.dtype, exact: bool) -> bool:
    """Whether the fused kernels can run a mixture; exact float32 needs too many registers without tensor cores."""
    width = max(mixture.w1.shape[2], mixture.w2.shape[2])
    most = max(mixture.num_private, mixture.num_shared)
    return not exact and width <= MAX_WIDTH[dtype.itemsize] and most <= max_experts(width)


# The family of tiles for each architecture. Compute capabilities 8.6, 8.9 and 12 have less shared memory than an A100,
# but enough for the tiles of sm_80.
_FAMILIES = {
    "sm_80": "sm_80",
    "sm_86": "sm_80",
    "sm_87": "sm_80",
    "sm_89": "sm_80",
    "sm_90": "sm_90",
    "sm_100": "sm_100",
    "sm_103": "sm_100",
    "sm_120": "sm_80",
    "gfx942": "gfx942",
}


class Arch(NamedTuple):
    """The GPU that the kernels target: its family of tiles (None if it has none) and its number of SMs."""

    family: str | None
    num_sms: int


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels on the CPU: ``TRITON_INTERPRET=1`` when they are imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def find_arch(device: torch.device) -> Arch:
    """Return the GPU that tiles are chosen for; the interpreter uses those of an H200."""
    if device.type == "cpu":
        return Arch("sm_90", 132)
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        arch = properties.gcnArchName.partition(":")[0]
    else:
        arch = f"sm_{properties.major}{properties.minor}"
    return Arch(_FAMILIES.get(arch), properties.multi_processor_count)
