import os
from unittest.mock import patch

import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # before torch counts the cores: workers, and what they start, share them
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(share, 1)))

import torch

from modx.missing import patterns
from modx.ops import activations

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before the kernels are imported: they run on the CPU, slowly


@pytest.fixture(autouse=True)
def seeded():
    """Modules draw their parameters from the global generator: give every test the same ones in any order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def registered():
    """A pattern or an activation that a test registers is gone after it."""
    with patch.dict(patterns._PATTERNS), patch.dict(activations.ACTIVATIONS):
        yield
