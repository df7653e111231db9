"""The disentangler gives eq. 3 and 4 for any modalities, and says which one does not fit."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracles
from modx import Disentangled, HybridExpertDisentangler

HOSTILE_NAMES = ("weight", "w1", "types", "bias", "two words", "experts", "0", "моль")


def features_of(modalities, dim=4, batch_size=2, dtype=torch.float64) -> dict[str, Tensor]:
    """Token counts 1, 2, 3, ... in the order of the modalities."""
    return {name: torch.randn(batch_size, n, dim, dtype=dtype) for n, name in enumerate(modalities, start=1)}


def by_loops(module: HybridExpertDisentangler, features: dict[str, Tensor], activation: str = "gelu") -> Disentangled:
    num_private, num_shared = module.num_private_experts, module.num_shared_experts
    result = Disentangled({}, {}, {})
    for index, name in enumerate(module.modalities):
        shape, width = features[name].shape[:2], features[name].shape[2]
        private, shared, weights = [], [], []
        for row in features[name].flatten(0, 1).tolist():
            weight = oracles.router(module.routers[name], row)
            own = [index * num_private + k for k in range(num_private)]
            common = [len(module.modalities) * num_private + k for k in range(num_shared)]
            for view, experts, part in (
                (private, own, weight[:num_private]),
                (shared, common, weight[num_private:]),
            ):
                outputs = [oracles.mlp(row, oracles.network(module.experts, e), activation) for e in experts]
                view.append(oracles.scaled_sum(part, outputs, width))
            weights.append(weight)
        result.private[name] = oracles.tensor(private, width).unflatten(0, shape)
        result.shared[name] = oracles.tensor(shared, width).unflatten(0, shape)
        result.router_weights[name] = oracles.tensor(weights, num_private + num_shared).unflatten(0, shape)
    return result


def assert_same(got: Disentangled, expected: Disentangled) -> None:
    for field in Disentangled._fields:
        torch.testing.assert_close(getattr(got, field), getattr(expected, field), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("implementation", ["auto", "eager", "reference"])
@pytest.mark.parametrize("counts", [(1, 3), (2, 1), (0, 2), (3, 0)])
@pytest.mark.parametrize("router_hidden_dim", [None, 3], ids=["linear router", "mlp router"])
def test_disentangles_as_a_loop_does(counts, router_hidden_dim, implementation):
    module = HybridExpertDisentangler(
        ("text", "audio", "vision"),
        4,
        5,
        num_private_experts=counts[0],
        num_shared_experts=counts[1],
        router_hidden_dim=router_hidden_dim,
        temperature=0.6,
        implementation=implementation,
        dtype=torch.float64,
    )
    features = features_of(module.modalities)
    assert_same(module(features), by_loops(module, features))


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu", "silu"])
def test_its_experts_use_the_activation_asked_for(activation):
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, activation=activation, dtype=torch.float64)
    features = features_of(module.modalities)
    assert_same(module(features), by_loops(module, features, activation))


@pytest.mark.parametrize("top_k", [1, 2])
def test_each_token_gives_weight_to_top_k_of_all_its_experts(top_k):
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, num_private_experts=2, top_k=top_k, dtype=torch.float64)
    features = features_of(module.modalities)
    assert_same(module(features), by_loops(module, features))
    assert all(((part > 0).sum(-1) == top_k).all() for part in module(features).router_weights.values())


def test_dropout_acts_on_the_views_and_in_training_alone():
    module = HybridExpertDisentangler(("text", "audio"), 64, 5, dropout=0.25)
    features = features_of(module.modalities, dim=64, batch_size=40, dtype=torch.float32)
    views, expected = module(features), module.eval()(features)
    for name in features:
        for got, want in ((views.private[name], expected.private[name]), (views.shared[name], expected.shared[name])):
            kept = got != 0
            torch.testing.assert_close(got, torch.where(kept, want / 0.75, 0))
            assert 0.7 < kept.float().mean() < 0.8
        assert torch.equal(views.router_weights[name], expected.router_weights[name])


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 8),
    experts=st.tuples(st.integers(0, 2), st.integers(0, 3)).filter(any),
    batch_size=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_takes_one_to_eight_modalities_of_any_name(count, experts, batch_size, seed):
    torch.manual_seed(seed)
    module = HybridExpertDisentangler(
        HOSTILE_NAMES[:count],
        3,
        2,
        num_private_experts=experts[0],
        num_shared_experts=experts[1],
        dtype=torch.float64,
    )
    features = features_of(module.modalities, dim=3, batch_size=batch_size)
    views = module(features)
    assert_same(views, by_loops(module, features))
    for view in views:
        assert tuple(view) == module.modalities


def test_gradients_are_those_of_what_it_computes():
    module = HybridExpertDisentangler(("text", "audio"), 3, 2, num_shared_experts=2, dtype=torch.float64)
    features = {name: part.requires_grad_() for name, part in features_of(module.modalities, dim=3).items()}

    def run(text, audio, *parameters):
        named = dict(zip(dict(module.named_parameters()), parameters, strict=True))
        views = torch.func.functional_call(module, named, ({"text": text, "audio": audio},))
        return tuple(part for view in views for part in view.values())

    assert torch.autograd.gradcheck(run, (*features.values(), *module.parameters()), fast_mode=True)


def test_without_private_experts_the_private_views_are_exactly_zeros():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, num_private_experts=0)
    views = module(features_of(module.modalities, dtype=torch.float32))
    assert not any(view.any() for view in views.private.values())
    assert all(view.any() for view in views.shared.values())


def test_without_shared_experts_the_shared_views_are_exactly_zeros():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, num_shared_experts=0)
    views = module(features_of(module.modalities, dtype=torch.float32))
    assert not any(view.any() for view in views.shared.values())
    assert all(view.any() for view in views.private.values())


def test_a_modality_never_sees_the_private_experts_or_the_tokens_of_another():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5)
    features = features_of(module.modalities, dtype=torch.float32)
    expected = module(features)
    with torch.no_grad():
        for parameter in (*module.routers["audio"].parameters(), *(bank[0] for bank in module.experts.parameters())):
            parameter.fill_(torch.nan)
    views = module(features | {"audio": torch.full((2, 2, 4), torch.nan)})
    for view, want in zip(views, expected, strict=True):
        torch.testing.assert_close(view["text"], want["text"], rtol=1e-6, atol=1e-6)


def test_permuting_samples_permutes_the_views():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, dtype=torch.float64)
    features, order = features_of(module.modalities, batch_size=4), torch.tensor([2, 0, 3, 1])
    views = module({name: part[order] for name, part in features.items()})
    expected = [{name: part[order] for name, part in view.items()} for view in module(features)]
    assert_same(views, Disentangled(*expected))


def test_the_order_of_the_mapping_does_not_matter():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, dtype=torch.float64)
    features = features_of(module.modalities)
    assert_same(module(dict(reversed(features.items()))), module(features))


def test_a_modality_without_tokens_gives_views_without_tokens():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5)
    views = module({"text": torch.randn(2, 0, 4), "audio": torch.randn(2, 3, 4)})
    assert views.private["text"].shape == views.shared["text"].shape == (2, 0, 4)
    assert views.private["audio"].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": None, "audio": None}, "got ()."),
        ({"vision": torch.zeros(2, 1, 4)}, "got ('text', 'audio', 'vision')."),
        ({"audio": None, "speech": torch.zeros(2, 1, 4)}, "got ('text', 'audio', 'speech')"),
    ],
)
def test_refuses_other_modalities_than_its_own_and_says_the_remedy(changed, message):
    module = HybridExpertDisentangler(("text", "audio"), 4, 5)
    features = features_of(("text", "audio"), dtype=torch.float32) | changed
    expected = (
        "HybridExpertDisentangler expected features with one or more of the modalities ('audio', 'text') "
        "and no others, " + message
    )
    with pytest.raises(ValueError, match="^" + re.escape(expected)):
        module(features)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (torch.zeros(2, 3, 5), "features['audio'] of shape (B=2, N=3, D=4), got (2, 3, 5)"),
        (torch.zeros(2, 1, 3, 4), "features['audio'] of shape (B, N, D=4), got (2, 1, 3, 4)"),
        (torch.zeros(3, 3, 4), "features['text'] of shape (B=3, N, D=4), got (2, 1, 4)"),
        (
            torch.zeros(2, 3, 4, dtype=torch.long),
            "features['audio'] in a floating-point dtype, got torch.int64; cast it",
        ),
        (torch.zeros(2, 3, 4, dtype=torch.bool), "features['audio'] in a floating-point dtype, got torch.bool"),
        (torch.tensor(0.0), "features['audio'] of shape (B, N, D=4), got ()"),
    ],
)
def test_refuses_features_that_do_not_fit_and_names_the_modality(audio, message):
    module = HybridExpertDisentangler(("text", "audio"), 4, 5)
    with pytest.raises(ValueError, match="^HybridExpertDisentangler expected " + re.escape(message)):
        module({"text": torch.zeros(2, 1, 4), "audio": audio})


def test_refuses_a_first_feature_without_dimensions():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5)
    with pytest.raises(ValueError, match=r"HybridExpertDisentangler expected features\['text'\] .*, got \(\)"):
        module({"text": torch.tensor(0.0)})


@pytest.mark.parametrize("modalities", [(), ("text", "text"), "text"])
def test_refuses_names_that_are_not_a_collection_of_distinct_ones(modalities):
    message = re.escape(f"modalities to be one or more distinct names, got {modalities!r}")
    with pytest.raises(ValueError, match="HybridExpertDisentangler expected " + message):
        HybridExpertDisentangler(modalities, 4, 5)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((0, 0), r"num_private_experts \+ num_shared_experts >= 1, got 0"),
        ((-1, 3), "num_private_experts >= 0, got -1"),
        ((2, -1), "num_shared_experts >= 0, got -1"),
    ],
)
def test_refuses_impossible_numbers_of_experts(counts, message):
    with pytest.raises(ValueError, match=message):
        HybridExpertDisentangler(("text",), 4, 5, num_private_experts=counts[0], num_shared_experts=counts[1])


def test_refuses_an_implementation_at_once():
    with pytest.raises(ValueError, match=r"Experts expected implementation to be one of .* got 'cuda'"):
        HybridExpertDisentangler(("text",), 4, 5, implementation="cuda")


def test_passes_the_implementation_on(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    module = HybridExpertDisentangler(("text",), 4, 5, implementation="triton")
    with pytest.raises(ValueError, match=r"cannot run implementation='triton': .* x is on cpu"):
        module({"text": torch.zeros(2, 1, 4)})


def test_passes_router_settings_on():
    module = HybridExpertDisentangler(("text", "audio"), 4, 5, router_hidden_dim=7, temperature=0.3)
    assert [router.logits.w1.shape for router in module.routers.values()] == [(1, 7, 4)] * 2
    assert [router.temperature.item() for router in module.routers.values()] == pytest.approx([0.3] * 2)


def test_has_the_size_of_the_paper():
    module = HybridExpertDisentangler(("text", "audio", "vision"), 128, 256)
    assert sum(p.numel() for p in module.parameters()) == 395_520 + 1_548 + 3
