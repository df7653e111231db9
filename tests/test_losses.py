"""The losses give eq. 5, 7, 9, 11 and 12, the load of experts, and gradients that stay finite where a view is zero."""

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from modx import Disentangled, HybridExpertDisentangler, Reconstruction
from modx.losses import load_balance, orthogonality_loss, reconstruction_loss

MODALITIES = ("text", "audio", "a.b")
PENALTIES = {
    "cosine": lambda cosine: cosine,
    "relu": lambda cosine: max(cosine, 0.0),
    "abs": abs,
    "square": lambda cosine: cosine**2,
}
every_penalty = pytest.mark.parametrize("penalty", PENALTIES)


def draw(batch_size: int = 2, **kwargs) -> dict[str, Tensor]:
    kwargs = {"dtype": torch.float64} | kwargs
    return {name: torch.randn(batch_size, n, 4, **kwargs) for n, name in enumerate(MODALITIES, start=1)}


def both(private: dict[str, Tensor], shared: dict[str, Tensor]) -> Disentangled:
    return Disentangled(private, shared, {})


def routed(batch_size: int = 3) -> dict[str, Tensor]:
    return {name: part.mul(3).softmax(-1) for name, part in draw(batch_size).items()}


# load balance


def test_load_balance_is_the_loop_of_the_formula_and_one_plus_the_squared_coefficient_of_variation():
    weights, expected = routed(), 0.0
    for part in weights.values():
        rows = part.flatten(0, 1).tolist()
        means = [math.fsum(row[k] for row in rows) / len(rows) for k in range(4)]
        expected += 4 * math.fsum(mean**2 for mean in means)
        assert 4 * math.fsum(m**2 for m in means) == pytest.approx(1 + (np.std(means) / np.mean(means)) ** 2)
    assert load_balance(weights).item() == pytest.approx(expected, rel=1e-12)


def test_load_balance_is_least_for_equal_loads_and_most_for_one_expert_alone():
    even, one = torch.full((2, 3, 4), 0.25), torch.eye(4)[0].expand(2, 3, 4)
    taking_turns = torch.eye(4).expand(2, 4, 4)
    assert [load_balance({"text": part}).item() for part in (even, taking_turns, one)] == [1.0, 1.0, 4.0]


def test_a_step_along_its_gradient_balances_the_load():
    logits = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(load_balance({"text": logits.softmax(-1)}), logits)
        logits = (logits - 5 * gradient).detach().requires_grad_()
    torch.testing.assert_close(
        logits.softmax(-1).mean((0, 1)), torch.full((4,), 0.25, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_load_balance_takes_the_weights_of_the_disentangler_and_their_zeros_do_not_count():
    disentangle = HybridExpertDisentangler(("text", "audio"), 4, 5, dtype=torch.float64)
    features = {name: torch.randn(4, 3, 4, dtype=torch.float64) for name in ("text", "audio")}
    present = {"text": torch.rand(4, 3) < 0.5, "audio": torch.tensor([True, False, True, False])}
    weights = disentangle(features, present).router_weights
    alone = {name: part[present[name]].reshape(1, -1, 4) for name, part in weights.items()}
    for there in (None, present):
        torch.testing.assert_close(load_balance(weights, there), load_balance(alone))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (({"text": torch.rand(2, 3)},), "load_balance expected router_weights['text'] of shape (B, N, K), got (2, 3)"),
        (({"text": torch.ones(2, 3, 4, dtype=torch.long)},), "router_weights['text'] in a floating-point dtype"),
        (({"text": torch.rand(2, 3, 4)}, {}), "load_balance expected present for the modalities ('text',), got ()"),
    ],
)
def test_load_balance_refuses_what_does_not_fit(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_balance(*given)


# orthogonality


@every_penalty
def test_orthogonality_is_the_loop_of_the_formula(penalty):
    private, shared = draw(), draw()
    expected = 0.0
    for name in MODALITIES:
        pairs = list(zip(private[name].flatten(0, 1).tolist(), shared[name].flatten(0, 1).tolist(), strict=True))
        for a, b in pairs:
            product = sum(p * q for p, q in zip(a, b, strict=True))
            expected += PENALTIES[penalty](product / (math.hypot(*a) * math.hypot(*b))) / len(pairs)
    assert orthogonality_loss(both(private, shared), penalty=penalty).item() == pytest.approx(expected, rel=1e-12)


def test_orthogonality_is_the_printed_cosine_unless_asked():
    private, shared = draw(), draw()
    assert orthogonality_loss(both(private, shared)) == orthogonality_loss(both(private, shared), penalty="cosine")


@pytest.mark.parametrize(("penalty", "opposite"), [("cosine", -3.0), ("relu", 0.0), ("abs", 3.0), ("square", 3.0)])
def test_only_the_printed_penalty_rewards_opposite_views(penalty, opposite):
    views = draw()
    against = {name: -2 * part for name, part in views.items()}
    assert orthogonality_loss(both(views, against), penalty=penalty).item() == pytest.approx(opposite, abs=1e-12)
    assert orthogonality_loss(both(views, views), penalty=penalty).item() == pytest.approx(3.0)


@every_penalty
def test_orthogonal_views_cost_nothing(penalty):
    private, shared = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    private[..., 0], shared[..., 2] = 5.0, -3.0
    assert orthogonality_loss(both({"text": private}, {"text": shared}), penalty=penalty).item() == 0.0


@every_penalty
@pytest.mark.parametrize("zero", ["private", "shared", "both"])
def test_a_zero_view_costs_nothing_and_has_a_finite_gradient(penalty, zero):
    views = {
        name: torch.randn(2, 3, 4).mul(0 if zero in (name, "both") else 1).requires_grad_()
        for name in ("private", "shared")
    }
    loss = orthogonality_loss(both({"text": views["private"]}, {"text": views["shared"]}), penalty=penalty)
    assert loss.item() == 0.0
    loss.backward()
    assert all(view.grad.isfinite().all() for view in views.values())


@every_penalty
def test_gradients_of_orthogonality_are_those_of_what_it_computes(penalty):
    views = [part.requires_grad_() for parts in (draw(), draw()) for part in parts.values()]

    def run(*parts):
        private, shared = (dict(zip(MODALITIES, half, strict=True)) for half in (parts[:3], parts[3:]))
        return orthogonality_loss(both(private, shared), penalty=penalty)

    assert torch.autograd.gradcheck(run, views)


def test_orthogonality_is_blind_to_the_order_of_samples_and_modalities():
    private, shared, order = draw(4), draw(4), torch.tensor([2, 0, 3, 1])
    moved = ({name: view[name][order] for name in reversed(MODALITIES)} for view in (private, shared))
    torch.testing.assert_close(orthogonality_loss(both(*moved)), orthogonality_loss(both(private, shared)))


def test_orthogonality_refuses_an_unknown_penalty():
    message = "penalty to be one of ('cosine', 'relu', 'abs', 'square'), got 'l1'"
    with pytest.raises(ValueError, match="orthogonality_loss expected " + re.escape(message)):
        orthogonality_loss(both(draw(), draw()), penalty="l1")


def test_orthogonality_refuses_views_of_different_modalities():
    private, shared = draw(), draw()
    del shared["audio"]
    expected = "orthogonality_loss expected shared with the modalities ('a.b', 'audio', 'text') of private"
    message = f"{expected}, got ('text', 'a.b')"
    with pytest.raises(ValueError, match=re.escape(message)):
        orthogonality_loss(both(private, shared))


# reconstruction


def mean_absolute_error(rebuilt: dict[str, Tensor], target: dict[str, Tensor]) -> float:
    total = 0.0
    for name in MODALITIES:
        differences = zip(rebuilt[name].flatten().tolist(), target[name].flatten().tolist(), strict=True)
        total += sum(abs(a - b) for a, b in differences) / rebuilt[name].numel()
    return total


def test_reconstruction_is_the_loop_of_the_formulas_level_by_level():
    rebuilt = Reconstruction(draw(), draw(), draw(), draw())
    features, views = draw(), Disentangled(draw(), draw(), {})
    loss = reconstruction_loss(rebuilt, features, views)
    expected = {
        "input": mean_absolute_error(rebuilt.input, features),
        "disentangled": mean_absolute_error(rebuilt.private, views.private)
        + mean_absolute_error(rebuilt.shared, views.shared),
        "joint": mean_absolute_error(rebuilt.joint, features),
    }
    for level, value in expected.items():
        assert getattr(loss, level).item() == pytest.approx(value, rel=1e-12)
    assert loss.total.item() == pytest.approx(sum(expected.values()) / 3, rel=1e-12)


def test_equation_12_by_hand():
    def filled(value):
        return {"text": torch.full((2, 3, 4), value), "audio": torch.full((2, 3, 4), 2 * value)}

    rebuilt = Reconstruction(input=filled(1.0), private=filled(2.0), shared=filled(3.0), joint=filled(-1.0))
    views = Disentangled(private=filled(1.5), shared=filled(1.0), router_weights={})
    loss = reconstruction_loss(rebuilt, filled(0.0), views)
    assert (loss.input, loss.disentangled, loss.joint) == (1 + 2, (0.5 + 1) + (2 + 4), 1 + 2)  # eq. 7, 9, 11
    assert loss.total.item() == pytest.approx((3 + 7.5 + 3) / 3)  # eq. 12


@pytest.mark.parametrize("level", ["input", "disentangled", "joint", None])
def test_a_level_left_out_counts_nothing(level):
    kept = {"input": {"input"}, "disentangled": {"private", "shared"}, "joint": {"joint"}, None: set()}[level]
    rebuilt = Reconstruction(*(draw() if field in kept else None for field in Reconstruction._fields))
    loss = reconstruction_loss(rebuilt, draw(), Disentangled(draw(), draw(), {}))
    for field in ("input", "disentangled", "joint"):
        part = getattr(loss, field)
        assert part.shape == ()
        assert part.dtype == torch.float64
        assert (part.item() > 0) == (field == level)
    assert loss.total == (0 if level is None else getattr(loss, level) / 3)


def test_what_is_rebuilt_without_error_costs_nothing():
    features, views = draw(), Disentangled(draw(), draw(), {})
    rebuilt = Reconstruction(features, views.private, views.shared, features)
    assert reconstruction_loss(rebuilt, features, views).total == 0


@pytest.mark.parametrize("detach_target", [False, True])
def test_detach_target_stops_the_gradient_into_targets_alone(detach_target):
    rebuilt = Reconstruction(*(draw(requires_grad=True) for _ in Reconstruction._fields))
    features = draw(requires_grad=True)
    views = Disentangled(draw(requires_grad=True), draw(requires_grad=True), {})
    loss = reconstruction_loss(rebuilt, features, views, detach_target=detach_target)
    loss.total.backward()
    for name in MODALITIES:
        assert all(level[name].grad.any() for level in rebuilt)
        for target in (features, views.private, views.shared):
            assert (target[name].grad is None) == detach_target


def test_targets_are_learned_from_unless_asked_otherwise():
    targets = (draw(requires_grad=True), Disentangled(draw(), draw(), {}))
    rebuilt = Reconstruction(draw(), draw(), draw(), draw())
    assert reconstruction_loss(rebuilt, *targets).total.requires_grad


def test_detach_target_leaves_the_value_alone():
    rebuilt = Reconstruction(draw(), draw(), draw(), draw())
    targets = (draw(), Disentangled(draw(), draw(), {}))
    assert reconstruction_loss(rebuilt, *targets) == reconstruction_loss(rebuilt, *targets, detach_target=True)


@pytest.mark.parametrize("detach_target", [False, True])
def test_gradients_of_reconstruction_are_those_of_what_it_computes(detach_target):
    rebuilt = [part.requires_grad_() for _ in range(4) for part in draw().values()]
    targets = (draw(), Disentangled(draw(), draw(), {}))

    def run(*parts):
        levels = [dict(zip(MODALITIES, parts[i : i + 3], strict=True)) for i in (0, 3, 6, 9)]
        return tuple(reconstruction_loss(Reconstruction(*levels), *targets, detach_target=detach_target))

    assert torch.autograd.gradcheck(run, rebuilt)


def test_reconstruction_is_blind_to_the_order_of_samples_and_modalities():
    order = torch.tensor([2, 0, 3, 1])
    rebuilt, features, views = Reconstruction(*(draw(4) for _ in range(4))), draw(4), (draw(4), draw(4))

    def move(parts):
        return {name: parts[name][order] for name in reversed(MODALITIES)}

    moved = reconstruction_loss(
        Reconstruction(*map(move, rebuilt)), move(features), Disentangled(*map(move, views), {})
    )
    torch.testing.assert_close(moved, reconstruction_loss(rebuilt, features, Disentangled(*views, {})))


@pytest.mark.parametrize("position", ["features", "private", "shared"])
def test_reconstruction_refuses_targets_of_other_modalities(position):
    targets = {"features": draw(), "private": draw(), "shared": draw()}
    del targets[position]["audio"]
    argument = "target_features" if position == "features" else "target_disentangled"
    expected = f"reconstruction_loss expected {argument} with the modalities ('a.b', 'audio', 'text') of reconstruction"
    message = f"{expected}, got ('text', 'a.b')"
    with pytest.raises(ValueError, match=re.escape(message)):
        reconstruction_loss(
            Reconstruction(draw(), draw(), draw(), draw()),
            targets["features"],
            Disentangled(targets["private"], targets["shared"], {}),
        )


def test_orthogonality_refuses_views_that_would_broadcast():
    with pytest.raises(ValueError, match=r"shared\['a'\] of shape \(B=2, N=4, D=8\), got \(2, 1, 8\)"):
        orthogonality_loss(both({"a": torch.ones(2, 4, 8)}, {"a": torch.ones(2, 1, 8)}))


def test_reconstruction_refuses_targets_that_would_broadcast():
    views = Disentangled({}, {}, {})
    with pytest.raises(ValueError, match=r"target_features\['a'\] of shape \(B=2, N=4, D=8\), got \(1, 4, 8\)"):
        reconstruction_loss(
            Reconstruction({"a": torch.ones(2, 4, 8)}, None, None, None), {"a": torch.ones(1, 4, 8)}, views
        )
