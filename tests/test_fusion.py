"""The modality router gives eq. 13-15, and nothing of an absent input is seen."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracles
from modx import Fused, ModalityRouter

NAMES = tuple("abcdef")


def make(num_modalities: int = 3, dim: int = 4, **kwargs) -> ModalityRouter:
    return ModalityRouter(NAMES[:num_modalities], dim, 5, **{"dtype": torch.float64, "num_views": 1} | kwargs)


def named(parts) -> dict[str, Tensor]:
    """A mapping by name, of inputs or of the columns of what is present."""
    return dict(zip(NAMES, parts, strict=False))


def run(module: ModalityRouter, inputs: list[Tensor], present: Tensor | None = None) -> Fused:
    """Fuse one view of inputs in the order of their names; weights side by side."""
    fused = module(named(inputs), present=None if present is None else named(present.unbind(1)))
    return Fused(fused.features, torch.stack(list(fused.router_weights[0].values()), dim=-1))


def draw(num_inputs: int = 3, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(shape or (2, 3, 4), dtype=dtype) for _ in range(num_inputs)]


def by_loops(module: ModalityRouter, inputs: list[Tensor], present: Tensor | None = None) -> Fused:
    batch_size, tokens, dim = inputs[0].shape
    features, weights = [], []
    for sample in range(batch_size):
        shown = [True] * len(inputs) if present is None else present[sample].tolist()
        for token in range(tokens):
            rows = [
                part[sample, token].tolist() if there else [0.0] * dim
                for part, there in zip(inputs, shown, strict=True)
            ]
            weight = oracles.router(module.router, [value for row in rows for value in row], shown)
            features.append(oracles.scaled_sum(weight, rows, dim))
            weights.append(weight)
    return Fused(
        oracles.tensor(features, dim).reshape(batch_size, tokens, dim),
        oracles.tensor(weights, len(inputs)).reshape(batch_size, tokens, len(inputs)),
    )


def assert_same(got: Fused, expected: Fused) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4)),
    num_inputs=st.integers(1, 6),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_fuses_as_a_loop_does(shape, num_inputs, masked, seed):
    torch.manual_seed(seed)
    module, inputs = make(num_inputs, shape[2]), draw(num_inputs, *shape)
    present = torch.rand(shape[0], num_inputs) > 0.5 if masked else None
    assert_same(run(module, inputs, present), by_loops(module, inputs, present))


def test_temperature_starts_at_one_over_the_number_of_inputs_unless_given():
    assert make(3, num_views=2).router.temperature.item() == pytest.approx(1 / 6)
    assert make(6, temperature=2.0).router.temperature.item() == pytest.approx(2.0)


def test_inputs_and_logits_lie_view_by_view_and_by_sorted_name_within_a_view():
    module, inputs = make(2, num_views=3), draw(6)
    views = [named(inputs[i : i + 2]) for i in (0, 2, 4)]
    fused, expected = module(*({"b": v["b"], "a": v["a"]} for v in views)), by_loops(module, inputs)
    weights = [weight for view in fused.router_weights for weight in (view["a"], view["b"])]
    assert_same(Fused(fused.features, torch.stack(weights, dim=-1)), expected)


def test_an_absent_input_gets_weight_zero_and_no_gradient():
    module, inputs = make(), [part.requires_grad_() for part in draw()]
    present = torch.tensor([[True, False, True], [True, True, True]])
    fused = run(module, inputs, present)
    assert not fused.router_weights[0, :, 1].any()
    torch.testing.assert_close(fused.router_weights.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    fused.features.sum().backward()
    assert not inputs[1].grad[0].any()
    assert inputs[1].grad[1].any()


def test_where_all_inputs_are_absent_the_result_is_zeros_and_gradients_are_finite():
    module, inputs = make(), draw()
    fused = run(module, inputs, torch.zeros(2, 3, dtype=torch.bool))
    assert not fused.features.any()
    assert not fused.router_weights.any()
    (fused.features.sum() + fused.router_weights.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_all_present_is_the_same_as_not_saying():
    module, inputs = make(), draw()
    assert_same(run(module, inputs, torch.ones(2, 3, dtype=torch.bool)), run(module, inputs))


def test_gradients_are_those_of_what_it_computes():
    module = make()
    present = torch.tensor([[True, False, True], [False, False, False]])

    def call(*parts):
        parameters = dict(zip(dict(module.named_parameters()), parts[3:], strict=True))
        present_by_name = {"present": named(present.unbind(1))}
        fused = torch.func.functional_call(module, parameters, (named(parts[:3]),), present_by_name)
        return (fused.features, *fused.router_weights[0].values())

    inputs = [part.requires_grad_() for part in draw(3, 2, 2, 4)]
    assert torch.autograd.gradcheck(call, (*inputs, *module.parameters()))


def test_permuting_samples_permutes_the_result():
    module, inputs, order = make(), draw(3, 4, 3, 4), torch.tensor([2, 0, 3, 1])
    present = torch.rand(4, 3) > 0.5
    expected = Fused(*(part[order] for part in run(module, inputs, present)))
    assert_same(run(module, [part[order] for part in inputs], present[order]), expected)


def test_permuting_inputs_with_their_part_of_the_router_permutes_the_weights_alone():
    module, other, order = make(), make(), [2, 0, 1]
    bank, permuted = module.router.logits, other.router.logits
    permuted.w1.data = bank.w1.data.unflatten(2, (3, 4))[:, :, order].flatten(2)
    permuted.b1.data = bank.b1.data
    permuted.w2.data, permuted.b2.data = bank.w2.data[:, :, order], bank.b2.data[:, order]
    inputs = draw()
    expected = run(module, inputs)
    got = run(other, [inputs[i] for i in order])
    assert_same(got, Fused(expected.features, expected.router_weights[..., order]))


def test_has_the_size_of_the_paper():
    assert sum(p.numel() for p in ModalityRouter(("text", "audio", "vision"), 128, 256).parameters()) == 198_406 + 1


VIEW = named(draw(2))
YES = torch.ones(2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("views", "present", "message"),
    [
        ((VIEW,), None, "2 views, got 1"),
        ((VIEW, VIEW, VIEW), None, "2 views, got 3"),
        ((VIEW, {}), None, "views[1] with the modalities ('a', 'b') of views[0], got ()"),
        ((VIEW, {"a": None}), None, "views[1] with the modalities ('a', 'b') of views[0], got ()"),
        (
            (VIEW, VIEW | {"c": VIEW["a"]}),
            None,
            "views[1] with the modalities ('a', 'b') of views[0], got ('a', 'b', 'c')",
        ),
        ((VIEW, {"a": VIEW["a"]}), None, "views[1] with the modalities ('a', 'b') of views[0], got ('a',)"),
        ((VIEW, named(draw(2, 2, 2, 4))), None, "views[1]['a'] of shape (B=2, N=3, D=4), got (2, 2, 4)"),
        ((VIEW, named(draw(2, 2, 3, 5))), None, "views[1]['a'] of shape (B=2, N=3, D=4), got (2, 3, 5)"),
        ((VIEW, VIEW), {"a": YES}, "present for the modalities ('a', 'b'), got ('a',); add 'b'"),
        ((VIEW, VIEW), {"a": YES.float(), "b": YES}, "present['a'] to be bool, got torch.float32; convert"),
        ((VIEW, VIEW), {"a": YES[:1], "b": YES}, "present['a'] of shape (B=2,), got (1,)"),
    ],
)
def test_refuses_what_does_not_fit_and_says_why(views, present, message):
    with pytest.raises(ValueError, match="^ModalityRouter expected " + re.escape(message)):
        make(2, num_views=2)(*views, present=present)
