"""Whether Triton's interpreter, not a GPU, runs the kernels."""

import os


def interpreted() -> bool:
    """True where ``TRITON_INTERPRET=1`` was set before the kernels were imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"
