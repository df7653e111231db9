"""What runs the kernels: an architecture, and how many processors there are to keep busy."""

import os
from functools import cache
from typing import NamedTuple

import torch


class Chip(NamedTuple):
    arch: str
    processors: int


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: ``TRITON_INTERPRET=1`` when they are imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def chip(device: torch.device) -> Chip:
    """The chip that tiles are chosen for; the interpreter takes an H200's."""
    if interpreted():
        return Chip("sm_90", 132)
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return Chip(properties.gcnArchName.partition(":")[0], properties.multi_processor_count)
    return Chip(f"sm_{properties.major}{properties.minor}", properties.multi_processor_count)
