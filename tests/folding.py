"""Choose how a BottleneckEncoder encodes frames, whatever their size."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modx import encode


@contextmanager
def encoding(implementation: str) -> Iterator[None]:
    """Let an encoder's size rule choose "folded" always or never; what else keeps it from folding still does."""
    reason = None if implementation == "folded" else "asked for"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "why_not", lambda frames, dim: reason)
        yield
