"""What would run the kernels: an architecture, and how many processors there are to keep busy."""

import os
from typing import NamedTuple

import torch

# By architecture, the row of the kernels' table that fits it; compute capabilities 8.6, 8.9 and 12 have less shared
# memory than an A100, which the row of sm_80 respects.
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


class Chip(NamedTuple):
    """A family of architectures, None if the kernels have no tiles for it, and a count of processors."""

    family: str | None
    processors: int


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: ``TRITON_INTERPRET=1`` when they are imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def exact_float32() -> bool:
    """Whether float32 products must not go through tf32: ``torch.set_float32_matmul_precision("highest")``."""
    if torch.compiler.is_compiling():  # which can trace the older of two names of one setting only
        return not torch.backends.cuda.matmul.allow_tf32
    precision: str = torch.backends.cuda.matmul.fp32_precision
    return precision != "tf32"


def find_chip(device: torch.device) -> Chip:
    """The chip that tiles are chosen for; the interpreter takes an H200's."""
    if device.type == "cpu":
        return Chip("sm_90", 132)
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        arch = properties.gcnArchName.partition(":")[0]
    else:
        arch = f"sm_{properties.major}{properties.minor}"
    return Chip(_FAMILIES.get(arch), properties.multi_processor_count)
