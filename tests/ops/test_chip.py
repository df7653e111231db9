"""What a device is to the kernels."""

from types import SimpleNamespace

import pytest
import torch

from modx.ops import choice
from modx.ops.chip import Chip, find_chip, interpreted


def test_the_interpreter_takes_the_tiles_of_an_h200():
    assert find_chip(torch.device("cpu")) == Chip("sm_90", 132)


@pytest.mark.parametrize(
    ("capability", "family"),
    [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90"), ((10, 0), "sm_100"), ((12, 0), "sm_80"), ((7, 5), None)],
)
def test_a_compute_capability_is_a_family(monkeypatch, capability, family):
    asked = []

    def properties(device):
        asked.append(device)
        return SimpleNamespace(major=capability[0], minor=capability[1], multi_processor_count=7)

    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    assert find_chip(torch.device("cuda", 1)) == Chip(family, 7)
    assert asked == [torch.device("cuda", 1)]


@pytest.mark.parametrize(("name", "family"), [("gfx942:sramecc+:xnack-", "gfx942"), ("gfx90a", None)])
def test_so_is_an_architecture_of_amd(monkeypatch, name, family):
    found = SimpleNamespace(gcnArchName=name, multi_processor_count=304)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    assert find_chip(torch.device("cuda")) == Chip(family, 304)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), (None, False), ("true", False)])
def test_the_interpreter_is_asked_for_as_triton_wants_it(monkeypatch, value, expected):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if value is not None:
        monkeypatch.setenv("TRITON_INTERPRET", value)
    assert interpreted() is expected


def obstacle(device, dtype, interpreter=False):
    return choice._obstacle(torch.device(device), dtype, interpreter)


def test_what_keeps_the_kernels_from_running(monkeypatch):
    assert obstacle("cpu", torch.float32) == "the kernels need a GPU, and x is on cpu"
    assert obstacle("meta", torch.float32, interpreter=True) == "the kernels need a GPU, and x is on meta"
    assert obstacle("cpu", torch.float32, interpreter=True) is None
    assert obstacle("cpu", torch.bfloat16, interpreter=True) == "Triton's interpreter computes bfloat16 wrongly"
    assert (
        obstacle("cpu", torch.float64, interpreter=True)
        == "the kernels take float16, bfloat16 and float32, not float64"
    )
    monkeypatch.setattr(choice, "find_chip", lambda device: Chip(None if device.index == 3 else "sm_90", 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"chip {device.index}")
    assert obstacle("cuda:3", torch.float32) == "the kernels have no tiles for chip 3"
    assert obstacle("cuda:0", torch.bfloat16) is None
    monkeypatch.setattr(choice, "_HAS_TRITON", False)
    assert obstacle("cuda:0", torch.float32) == "Triton is not installed"


def test_asked_for_by_name_it_says_so(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x, w2 = torch.zeros(2, 4), torch.zeros(1, 3, 4)
    assert choice.choose("triton", x, w2, torch.float32, 1, 0) == ("triton", "asked for by name")
    assert choice.choose("eager", x, w2, torch.float32, 1, 0) == ("eager", "asked for by name")
    assert choice.choose("auto", x, w2, torch.float32, 1, 0).implementation == "eager"  # never on its own
