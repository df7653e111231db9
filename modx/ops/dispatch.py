"""What runs a mixture, and why: the implementation, the dtype it computes in, and the GPU its kernels target."""

import os
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._checks import autocasts, check, check_choice, check_type
from .activations import ACTIVATIONS
from .mixture import OP, Mixture

IMPLEMENTATIONS = ("auto", "reference", "eager", "triton")
_HAS_TRITON = find_spec("triton") is not None  # looked for, not imported


class Choice(NamedTuple):
    """The implementation that runs, and the reason in a sentence."""

    implementation: str
    reason: str

    def __str__(self) -> str:
        return f"{self.implementation}: {self.reason}"


# Where the kernels pay is a model of memory traffic and registers: no GPU has measured it yet.
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
    expected = "least_memory=False with implementation='reference', which keeps all that it computes"
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
    """What keeps the kernels from running; None: nothing does."""
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


def transformed() -> bool:
    """Whether torch.func or forward-mode differentiation is active, which needs a derivative of every step."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the matmuls: that of the tokens, or autocast's."""
    device = x.device.type
    if autocasts(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def exact_float32() -> bool:
    """Whether float32 matmuls must not use tf32: ``torch.set_float32_matmul_precision("highest")``."""
    if torch.compiler.is_compiling():  # which can trace the older of two names of one setting only
        return not torch.backends.cuda.matmul.allow_tf32
    precision: str = torch.backends.cuda.matmul.fp32_precision
    return precision != "tf32"


MAX_WIDTH = {2: 256, 4: 128}  # by bytes per element: the accumulators of a wider tile do not fit into the registers


def max_experts(width: int) -> int:
    """Experts per bank in the fused kernels, which accumulate the router weights' gradients in registers."""
    return 8 if width <= 128 else 4


def fits_fused(mixture: Mixture, dtype: torch.dtype, exact: bool) -> bool:
    """Whether the fused kernels can run a mixture; exact float32 takes too many registers without tensor cores."""
    width = max(mixture.w1.shape[2], mixture.w2.shape[2])
    most = max(mixture.num_private, mixture.num_shared)
    return not exact and width <= MAX_WIDTH[dtype.itemsize] and most <= max_experts(width)


# By architecture, the tiles that fit it. Compute capabilities 8.6, 8.9 and 12 have less shared memory than an A100,
# and the tiles of sm_80 fit into theirs.
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
    """The GPU the kernels target: its family of architectures, None without tiles for it, and its number of SMs."""

    family: str | None
    num_sms: int


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: ``TRITON_INTERPRET=1`` when they are imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def find_arch(device: torch.device) -> Arch:
    """The GPU that tiles are chosen for; the interpreter takes an H200's."""
    if device.type == "cpu":
        return Arch("sm_90", 132)
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        arch = properties.gcnArchName.partition(":")[0]
    else:
        arch = f"sm_{properties.major}{properties.minor}"
    return Arch(_FAMILIES.get(arch), properties.multi_processor_count)
