"""`check_shapes` holds shapes to their letters, and names what does not fit; compilers see through it."""

import pytest
import torch
from torch import Tensor, nn

from modx._checks import check_shapes


def test_a_letter_is_one_size_wherever_it_stands():
    x, w = torch.zeros(5, 8), torch.zeros(3, 4, 8)
    assert check_shapes("op", x=(x, "T D"), w=(w, "E H D")) == {"T": 5, "D": 8, "E": 3, "H": 4}
    with pytest.raises(ValueError, match=r"^op expected w \(E=3, H=4, D=8\), got \(3, 4, 9\)\.$"):
        check_shapes("op", x=(x, "T D"), w=(torch.zeros(3, 4, 9), "E H D"))
    with pytest.raises(ValueError, match=r"^op expected square \(N=2, N=2\), got \(2, 3\)\.$"):
        check_shapes("op", square=(torch.zeros(2, 3), "N N"))


@pytest.mark.parametrize("shape", [(), (3,), (3, 8, 1)])
def test_a_rank_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"^op expected w \(E, D\), got \("):
        check_shapes("op", w=(torch.zeros(shape), "E D"))


def test_sizes_known_before_hold_and_are_left_as_they_were():
    known = {"E": 2}
    assert check_shapes("op", known, w=(torch.zeros(2, 8), "E D")) == {"E": 2, "D": 8}
    assert known == {"E": 2}
    with pytest.raises(ValueError, match=r"^op expected w \(E=2, D\), got \(3, 8\)\.$"):
        check_shapes("op", known, w=(torch.zeros(3, 8), "E D"))


def test_a_tensor_may_be_none_or_on_the_meta_device():
    assert check_shapes("op", x=(None, "T D"), w=(torch.zeros(0, 4, device="meta"), "E H")) == {"E": 0, "H": 4}


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
