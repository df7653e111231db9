"""The reconstructor gives eq. 6, 8 and 10, each level alone and all together."""

import re

import pytest
import torch
from torch import Tensor

import oracles
from modx import Disentangled, MultiLevelReconstructor, Reconstruction

MODALITIES = ("audio", "text", "two words")
DIM = 3


def draw(batch_size: int = 2, **kwargs) -> dict[str, Tensor]:
    kwargs = {"dtype": torch.float64} | kwargs
    return {name: torch.randn(batch_size, n, DIM, **kwargs) for n, name in enumerate(MODALITIES, start=1)}


def make(levels=("input", "disentangled", "joint")) -> MultiLevelReconstructor:
    return MultiLevelReconstructor(MODALITIES, DIM, 4, levels=levels, dtype=torch.float64)


def each_token(feature: Tensor, bank, index: int) -> Tensor:
    rows = [oracles.mlp(row, oracles.network(bank, index)) for row in feature.flatten(0, 1).tolist()]
    return oracles.tensor(rows, DIM).unflatten(0, feature.shape[:2])


def by_loops(module: MultiLevelReconstructor, features, views: Disentangled) -> Reconstruction:
    """R1 on features; R2 on each view, a network each; R3 on [private; shared]."""
    networks, count = module.networks, len(MODALITIES)
    rebuilt = dict.fromkeys(Reconstruction._fields)
    for index, name in enumerate(MODALITIES):
        private, shared = views.private[name], views.shared[name]
        levels = {}
        if "input" in module.levels:
            levels["input"] = each_token(features[name], networks["input"], index)
        if "disentangled" in module.levels:
            levels["private"] = each_token(private, networks["disentangled"], index)
            levels["shared"] = each_token(shared, networks["disentangled"], count + index)
        if "joint" in module.levels:
            levels["joint"] = each_token(torch.cat([private, shared], dim=-1), networks["joint"], index)
        for field, part in levels.items():
            rebuilt[field] = (rebuilt[field] or {}) | {name: part}
    return Reconstruction(**rebuilt)


def assert_same(got: Reconstruction, expected: Reconstruction) -> None:
    for field in Reconstruction._fields:
        ours, theirs = getattr(got, field), getattr(expected, field)
        if theirs is None:
            assert ours is None
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("levels", "fields"),
    [
        (("input",), {"input"}),
        (("disentangled",), {"private", "shared"}),
        (("joint",), {"joint"}),
        (("joint", "input"), {"input", "joint"}),
        (("input", "disentangled", "joint"), {"input", "private", "shared", "joint"}),
    ],
)
def test_rebuilds_the_levels_asked_for_as_loops_do_and_leaves_none_for_the_others(levels, fields):
    module = make(levels)
    features, views = draw(), Disentangled(draw(), draw(), {})
    rebuilt = module(features, views)
    assert {field for field in Reconstruction._fields if getattr(rebuilt, field) is not None} == fields
    assert_same(rebuilt, by_loops(module, features, views))


def test_a_level_left_out_costs_no_parameters():
    assert set(make(("input", "joint")).networks) == {"input", "joint"}


def test_joint_reads_private_then_shared_and_has_twice_the_hidden_units():
    module = make(("joint",))
    bank = module.networks["joint"]
    assert bank.w1.shape == (3, 8, 2 * DIM)
    features, views = draw(), Disentangled(draw(), draw(), {})
    with torch.no_grad():
        bank.w1[:, :, DIM:] = 0  # blind to the shared view
    expected = module(features, views)
    assert_same(module(features, views._replace(shared=draw())), expected)
    assert not torch.allclose(module(features, views._replace(private=draw())).joint["text"], expected.joint["text"])


def test_each_level_sees_only_what_it_rebuilds_from():
    module = make()
    nothing = {name: torch.full_like(part, torch.nan) for name, part in draw().items()}
    rebuilt = module(nothing, Disentangled(draw(), draw(), {}))
    assert all(part.isfinite().all() for level in rebuilt[1:] for part in level.values())
    rebuilt = module(draw(), Disentangled(draw(), nothing, {}))
    assert all(part.isfinite().all() for part in rebuilt.input.values())
    assert all(part.isfinite().all() for part in rebuilt.private.values())
    assert all(part.isnan().all() for level in (rebuilt.shared, rebuilt.joint) for part in level.values())


def test_gradients_are_those_of_what_it_computes():
    module = make()
    features, private, shared = draw(1), draw(1), draw(1)
    inputs = [part.requires_grad_() for parts in (features, private, shared) for part in parts.values()]

    def run(*parts):
        texts = [dict(zip(MODALITIES, parts[i : i + 3], strict=True)) for i in (0, 3, 6)]
        named = dict(zip(dict(module.named_parameters()), parts[9:], strict=True))
        views = Disentangled(texts[1], texts[2], {})
        rebuilt = torch.func.functional_call(module, named, (texts[0], views))
        return tuple(part for level in rebuilt for part in level.values())

    assert torch.autograd.gradcheck(run, (*inputs, *module.parameters()), fast_mode=True)


def test_permuting_samples_permutes_what_is_rebuilt():
    module, order = make(), torch.tensor([2, 0, 3, 1])
    features, private, shared = draw(4), draw(4), draw(4)

    def take(parts):
        return {name: part[order] for name, part in parts.items()}

    expected = [take(level) for level in module(features, Disentangled(private, shared, {}))]
    assert_same(
        module(take(features), Disentangled(take(private), take(shared), {})),
        Reconstruction(*expected),
    )


@pytest.mark.parametrize("shape", [(0, 2, DIM), (2, 0, DIM)])
def test_nothing_is_rebuilt_from_nothing(shape):
    part = {name: torch.zeros(shape, dtype=torch.float64) for name in MODALITIES}
    rebuilt = make()(part, Disentangled(part, part, {}))
    assert all(piece.shape == shape for level in rebuilt for piece in level.values())


@pytest.mark.parametrize("levels", [(), ("input", "output"), "inputs", "joint"])
def test_refuses_levels_it_does_not_know(levels):
    message = f"levels to be one or more of ('input', 'disentangled', 'joint'), got {levels!r}; to reconstruct none, "
    message += "leave the block out"
    with pytest.raises(ValueError, match="MultiLevelReconstructor expected " + re.escape(message)):
        make(levels)


@pytest.mark.parametrize("position", ["features", "private", "shared"])
@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (None, "{later} with the modalities ('{others}"),
        (torch.zeros(2, 3, 5), "{position}['audio'] of shape (B=2, N=3, D=3), got (2, 3, 5)"),
        (torch.zeros(2, 3, DIM, dtype=torch.int32), "{position}['audio'] in a floating-point dtype, got torch.int32"),
    ],
)
def test_refuses_features_and_views_that_do_not_fit(position, audio, message):
    parts = {"features": draw(), "private": draw(), "shared": draw()}
    for part in parts.values():
        part["audio"] = torch.zeros(2, 3, DIM, dtype=torch.float64)
    parts[position]["audio"] = audio
    parts[position] = {name: part for name, part in parts[position].items() if part is not None}
    # what comes first says which modalities there are
    later, others = ("private", "text") if position == "features" else (position, "audio")
    message = message.format(position=position, later=later, others=others)
    with pytest.raises(ValueError, match="^MultiLevelReconstructor expected " + re.escape(message)):
        make()(parts["features"], Disentangled(parts["private"], parts["shared"], {}))


def test_has_the_size_of_the_paper():
    module = MultiLevelReconstructor(("text", "audio", "vision"), 128, 128)
    assert sum(p.numel() for p in module.parameters()) == 593_280
