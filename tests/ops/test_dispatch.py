"""`explain` says which implementation runs, by device, dtype and width, and `auto` runs that one; tiles fit the GPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from modx.ops import Choice, dispatch, expert_mixture, explain
from modx.ops.dispatch import Arch, find_arch, interpreted
from modx.ops.mixture import Mixture

COUNTS = {"group_sizes": (3, 2), "num_private": 1, "num_shared": 1}


def inputs(width: int = 8, **options: object) -> list[Tensor | None]:
    return [
        torch.randn(5, width, **options),
        None,
        torch.randn(3, 16, width, **options),
        torch.zeros(3, 16, **options),
        torch.randn(3, 16, width, **options),
        torch.zeros(3, width, **options),
    ]


class Elsewhere:
    """As much of a tensor as the choice looks at, on a device that this machine need not have."""

    def __init__(self, width: int, device: str) -> None:
        self.shape = (5, width)
        self.device = torch.device(device)


def mixture(x: object, width: int, num_shared: int = 3, activation: str = "gelu") -> Mixture:
    w1 = w2 = torch.empty(3, 16, width)
    return Mixture(x, None, w1, torch.empty(3, 16), w2, torch.empty(3, width), [5], 1, num_shared, activation)


def chosen(
    width: int, dtype: torch.dtype, device: str = "cuda", implementation: str = "auto", num_shared: int = 3
) -> Choice:
    return dispatch.choose(mixture(Elsewhere(width, device), width, num_shared), dtype, implementation)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(dispatch, "find_arch", lambda device: Arch("sm_90", 132))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_the_kernels_on_a_gpu(dtype):
    assert chosen(256, dtype).implementation == chosen(257, dtype).implementation == "triton"
    assert "no hidden layer in memory" in chosen(256, dtype).reason
    assert "cuBLAS" in chosen(128, dtype, num_shared=9).reason
    assert "cuBLAS" in chosen(257, dtype).reason
    assert "modeled, not measured" in chosen(256, dtype).reason


@pytest.mark.usefixtures("gpu")
def test_float32_that_must_be_exact_never_runs_the_kernels_unasked():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        assert chosen(64, torch.float32).implementation == "eager"
        assert "exact float32" in chosen(64, torch.float32).reason
        torch.set_float32_matmul_precision("high")
        assert chosen(128, torch.float32).implementation == "triton"
        assert chosen(129, torch.float32).implementation == "eager"
        torch.backends.cuda.matmul.fp32_precision = "ieee"  # the newer name of the setting
        assert chosen(64, torch.float32).implementation == "eager"
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert chosen(64, torch.float32).implementation == "triton"
    finally:
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("gpu")
def test_transforms_that_need_every_step_run_eager():
    def implementation(x: Tensor) -> Tensor:
        seen.append(chosen(8, torch.float16))
        return x.sum()

    seen: list[Choice] = []
    torch.func.grad(implementation)(torch.ones(3))
    with torch.autograd.forward_ad.dual_level():
        implementation(torch.ones(3))
    assert seen == [("eager", "the kernels have no derivatives for torch.func or forward mode")] * 2


@pytest.mark.usefixtures("gpu")
def test_float64_runs_eager():
    assert chosen(8, torch.float64) == ("eager", "the kernels take float16, bfloat16 and float32, not float64")


@pytest.mark.parametrize("device", ["cpu", "mps", "xpu", "meta"])
def test_other_devices_run_eager(monkeypatch, device):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert chosen(8, torch.float32, device) == ("eager", f"the kernels need a GPU, and x is on {device}")


@pytest.mark.usefixtures("gpu")
def test_a_machine_without_triton_runs_eager(monkeypatch):
    monkeypatch.setattr(dispatch, "_HAS_TRITON", False)
    assert chosen(8, torch.float16) == ("eager", "Triton is not installed")
    with pytest.raises(ValueError, match="cannot run implementation='triton': Triton is not installed; use 'auto'"):
        chosen(8, torch.float16, implementation="triton")


def test_a_chip_without_tiles_runs_eager(monkeypatch):
    monkeypatch.setattr(dispatch, "find_arch", lambda device: Arch(None, 40))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Chip")
    assert chosen(8, torch.float16) == ("eager", "the kernels have no tiles for Old Chip")


@pytest.mark.parametrize("implementation", ["reference", "eager"])
def test_what_is_asked_for_by_name_runs(implementation):
    assert explain(*inputs(), **COUNTS, implementation=implementation) == (implementation, "asked for by name")


def test_explains_in_a_sentence_and_refuses_what_the_op_refuses():
    assert str(Choice("eager", "why not")) == "eager: why not"
    with pytest.raises(ValueError, match=r"expert_mixture expected w1 of shape \(E=4, H, D_in=8\), got \(3, 16, 8\)"):
        explain(*inputs(), group_sizes=(3, 2), num_private=1, num_shared=2)
    with pytest.raises(ValueError, match="expected least_memory=False with implementation='reference'"):
        explain(*inputs(), **COUNTS, implementation="reference", least_memory=True)
    assert explain(*inputs(), **COUNTS, least_memory=True).implementation == "eager"
    with pytest.raises(ValueError, match="expected implementation to be one of"):
        explain(*inputs(), **COUNTS, implementation="fast")


def test_auto_runs_what_it_explains(monkeypatch):
    parts = inputs()
    explained = explain(*parts, **COUNTS).implementation
    auto = expert_mixture(*parts, **COUNTS)
    named = expert_mixture(*parts, **COUNTS, implementation=explained)
    assert all(map(torch.equal, auto, named))


# what a device is to the kernels


def test_the_interpreter_takes_the_tiles_of_an_h200():
    assert find_arch(torch.device("cpu")) == Arch("sm_90", 132)


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
    assert find_arch(torch.device("cuda", 1)) == Arch(family, 7)
    assert asked == [torch.device("cuda", 1)]


@pytest.mark.parametrize(("name", "family"), [("gfx942:sramecc+:xnack-", "gfx942"), ("gfx90a", None)])
def test_so_is_an_architecture_of_amd(monkeypatch, name, family):
    found = SimpleNamespace(gcnArchName=name, multi_processor_count=304)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    assert find_arch(torch.device("cuda")) == Arch(family, 304)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), (None, False), ("true", False)])
def test_the_interpreter_is_asked_for_as_triton_wants_it(monkeypatch, value, expected):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    if value is not None:
        monkeypatch.setenv("TRITON_INTERPRET", value)
    assert interpreted() is expected


def obstacle(device, dtype, interpreter=False):
    return dispatch._obstacle(torch.device(device), dtype, "gelu", interpreter)


def test_what_keeps_the_kernels_from_running(monkeypatch):
    assert obstacle("cpu", torch.float32) == "the kernels need a GPU, and x is on cpu"
    assert obstacle("meta", torch.float32, interpreter=True) == "the kernels need a GPU, and x is on meta"
    assert obstacle("cpu", torch.float32, interpreter=True) is None
    assert obstacle("cpu", torch.bfloat16, interpreter=True) == "Triton's interpreter computes bfloat16 wrongly"
    assert (
        obstacle("cpu", torch.float64, interpreter=True)
        == "the kernels take float16, bfloat16 and float32, not float64"
    )
    monkeypatch.setattr(dispatch, "find_arch", lambda device: Arch(None if device.index == 3 else "sm_90", 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"chip {device.index}")
    assert obstacle("cuda:3", torch.float32) == "the kernels have no tiles for chip 3"
    assert obstacle("cuda:0", torch.bfloat16) is None
    monkeypatch.setattr(dispatch, "_HAS_TRITON", False)
    assert obstacle("cuda:0", torch.float32) == "Triton is not installed"


def test_asked_for_by_name_it_says_so(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    asked = mixture(torch.zeros(5, 4), 4)
    assert dispatch.choose(asked, torch.float32, "triton") == ("triton", "asked for by name")
    assert dispatch.choose(asked, torch.float32, "eager") == ("eager", "asked for by name")
    assert dispatch.choose(asked, torch.float32, "auto").implementation == "eager"  # never on its own
