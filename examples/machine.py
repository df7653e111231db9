"""processor: which processor measured what the examples record."""

import platform
from pathlib import Path


def processor() -> str:
    """Return the processor's name, or its architecture if the name is unknown."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
