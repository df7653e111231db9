"""Types of command-line arguments that several examples have: a wrong one is refused before work starts."""

import argparse
from pathlib import Path


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def target(text: str) -> Path:
    """Read the path of a file to write."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text!r}")
    return path
