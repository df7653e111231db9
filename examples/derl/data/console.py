"""Print lines that fit a terminal of 80 columns."""

import textwrap

COLUMNS = 80


def say(text: str) -> None:
    """Print a sentence, wrapped."""
    print(wrapped(text))


def wrapped(text: str) -> str:
    """Break a sentence into lines, but no path, option or number; every further line is indented.

    Example:
        >>> print(wrapped("converting /data/of/mine/unaligned_50.pkl to runs/20260101-120000/data.safetensors"))
        converting /data/of/mine/unaligned_50.pkl to
          runs/20260101-120000/data.safetensors
    """
    return textwrap.fill(text, COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
