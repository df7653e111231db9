import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Modules draw their parameters from the global generator: give every test the same ones in any order."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
