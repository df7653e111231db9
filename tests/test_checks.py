"""Arguments are held to their types, ranges and the letters of their shapes; compilers see through it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modx._checks import check_range, check_shapes, check_type


def test_a_letter_is_one_size_wherever_it_stands():
    x, w = torch.zeros(5, 8), torch.zeros(3, 4, 8)
    assert check_shapes("op", x=(x, "T D"), w=(w, "E H D")) == {"T": 5, "D": 8, "E": 3, "H": 4}
    with pytest.raises(ValueError, match=r"^op expected w of shape \(E=3, H=4, D=8\), got \(3, 4, 9\)\.$"):
        check_shapes("op", x=(x, "T D"), w=(torch.zeros(3, 4, 9), "E H D"))
    with pytest.raises(ValueError, match=r"^op expected square of shape \(N=2, N=2\), got \(2, 3\)\.$"):
        check_shapes("op", square=(torch.zeros(2, 3), "N N"))


@pytest.mark.parametrize("shape", [(), (3,), (3, 8, 1)])
def test_a_rank_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"^op expected w of shape \(E, D\), got \("):
        check_shapes("op", w=(torch.zeros(shape), "E D"))


def test_sizes_known_before_hold_and_are_left_as_they_were():
    known = {"E": 2}
    assert check_shapes("op", known, w=(torch.zeros(2, 8), "E D")) == {"E": 2, "D": 8}
    assert known == {"E": 2}
    with pytest.raises(ValueError, match=r"^op expected w of shape \(E=2, D\), got \(3, 8\)\.$"):
        check_shapes("op", known, w=(torch.zeros(3, 8), "E D"))


def test_a_tensor_may_be_none_or_on_the_meta_device():
    assert check_shapes("op", x=(None, "T D?"), w=(torch.zeros(0, 4, device="meta"), "E H")) == {"E": 0, "H": 4}
    with pytest.raises(TypeError, match=r"^op expected x of type Tensor, got None\.$"):
        check_shapes("op", x=(None, "T D"))


def test_dots_are_any_leading_sizes_and_equal_wherever_they_stand():
    x, mask = torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    assert check_shapes("op", x=(x, "... D"), mask=(mask, "bool ...")) == {"...": (2, 5), "D": 8}
    assert check_shapes("op", x=(torch.zeros(8), "... D")) == {"...": (), "D": 8}
    with pytest.raises(ValueError, match=r"^op expected mask of shape \(2, 5\), got \(5,\)\.$"):
        check_shapes("op", x=(x, "... D"), mask=(mask[0], "bool ..."))
    for scalar in (torch.tensor(0.0), torch.zeros(3)):
        with pytest.raises(ValueError, match=r"^op expected x of shape \(\.\.\., D, E\), got \("):
            check_shapes("op", x=(scalar, "... D E"))


@pytest.mark.parametrize(
    ("spelled", "accepted"),
    [
        ("T", (torch.float16, torch.float64)),
        ("bool T", (torch.bool,)),
        ("int T", (torch.uint8, torch.int64)),
        ("number T", (torch.uint8, torch.int64)),
    ],
)
def test_a_tensor_holds_what_is_spelled(spelled, accepted):
    for dtype in (torch.float16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int64, torch.complex64):
        x = torch.zeros(3, dtype=dtype)
        if dtype in accepted or (spelled in ("T", "number T") and dtype.is_floating_point):
            assert check_shapes("op", x=(x, spelled)) == {"T": 3}
        else:
            with pytest.raises(ValueError, match=rf"^op expected x (to|in) .*, got {dtype}"):
                check_shapes("op", x=(x, spelled))


def test_floating_tensors_are_of_the_dtype_asked_for_but_under_autocast():
    x, mask = torch.zeros(3), torch.ones(3, dtype=torch.bool)
    assert check_shapes("op", None, torch.float32, x=(x, "T"), mask=(mask, "bool T")) == {"T": 3}
    with pytest.raises(
        ValueError, match=r"^op expected x in torch.float64, the dtype of its weights, got torch.float32; cast it"
    ):
        check_shapes("op", None, torch.float64, x=(x, "T"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert check_shapes("op", None, torch.float64, x=(x, "T")) == {"T": 3}


def test_tensors_are_on_one_device():
    with pytest.raises(ValueError, match=r"^op expected w on cpu, the device of x, got meta; move"):
        check_shapes("op", x=(torch.zeros(3), "T"), w=(torch.zeros(3, device="meta"), "T"))


def test_an_owner_is_a_name_or_the_type_of_an_object():
    with pytest.raises(ValueError, match=r"^op expected n >= 1, got 0\.$"):
        check_range("op", 1, n=0)
    with pytest.raises(ValueError, match=r"^Linear expected n >= 1, got 0\.$"):
        check_range(nn.Linear(1, 1), 1, n=0)


def test_a_range_includes_its_bounds_and_no_nan():
    check_range("op", 0.0, 1.0, zero=0, one=1.0)
    check_range("op", 2, 2, two=2)
    for value in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"^op expected p in \[0, 1\], got {value}\.$"):
            check_range("op", 0.0, 1.0, p=value)
    for value in (0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"^op expected a finite p >= 1, got {value}\.$"):
            check_range("op", 1.0, p=value)
    with pytest.raises(ValueError, match=r"^op expected n == 2, got 3\.$"):
        check_range("op", 2, 2, n=3)
    with pytest.raises(TypeError, match=r"^op expected n of type int, got 2\.0\.$"):
        check_range("op", 2, 2, n=2.0)


@pytest.mark.parametrize("value", [True, np.int64(3), 3, "3", None, 3.5])
def test_a_type_takes_all_numbers_of_a_kind_and_no_bool(value):
    fitting = {bool: [True], int: [np.int64(3), 3], float: [np.int64(3), 3, 3.5], str: ["3"]}
    for kind, values in fitting.items():
        if any(value is one or (type(value) is type(one) and value == one) for one in values):
            check_type("op", kind, x=value)
        else:
            with pytest.raises(TypeError, match=rf"^op expected x of type {kind.__name__}, got "):
                check_type("op", kind, x=value)
    with pytest.raises(TypeError, match=r"^op expected x of type int or Tensor, got 'a'\.$"):
        check_type("op", int, torch.Tensor, x="a")


class Checked(nn.Module):
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        sizes = check_shapes("op", x=(x, "T D"), w=(w, "T E"))
        return x.sum(1, keepdim=True) * w + sizes["E"]


def test_one_graph_serves_every_size():
    torch._dynamo.reset()
    graphs = []
    compiled = torch.compile(
        Checked(), fullgraph=True, dynamic=True, backend=lambda graph, _: graphs.append(graph) or graph
    )
    for tokens in (4, 7, 9):
        x, w = torch.randn(tokens, 3), torch.randn(tokens, 2)
        assert torch.equal(compiled(x, w), Checked()(x, w))
    assert len(graphs) == 1


@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_a_symbolic_size(strict):
    tokens = torch.export.Dim("tokens", min=2, max=99)
    program = torch.export.export(
        Checked(), (torch.randn(4, 3), torch.randn(4, 2)), dynamic_shapes=({0: tokens},) * 2, strict=strict
    )
    x, w = torch.randn(7, 3), torch.randn(7, 2)
    assert torch.equal(program.module()(x, w), Checked()(x, w))
