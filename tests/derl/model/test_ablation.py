"""Blocks taken out of DERL, against loops over plain layers."""

import pytest
import torch
import torch.nn.functional as F

from derl.model.ablation import MeanFusion, MlpDisentangler
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.train.setup import PRESETS


def test_mlp_disentangler_is_two_mlps_a_modality():
    names = ("audio", "text")
    module = MlpDisentangler(names, 8, 16)
    features = {"text": torch.randn(2, 4, 8), "audio": torch.randn(2, 3, 8)}
    views = module(features)
    w1, b1, w2, b2 = module.mlps.w1, module.mlps.b1, module.mlps.w2, module.mlps.b2

    def mlp(x, expert):
        return F.gelu(x @ w1[expert].T + b1[expert]) @ w2[expert] + b2[expert]

    for index, name in enumerate(names):
        torch.testing.assert_close(views.private[name], mlp(features[name], index), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(views.shared[name], mlp(features[name], 2), atol=1e-5, rtol=1e-5)


def test_mean_fusion_is_the_mean():
    views = [{name: torch.randn(3, 4, 8) for name in ("text", "audio")} for _ in range(2)]
    fused = MeanFusion()(*views)
    torch.testing.assert_close(fused.features, sum(part for view in views for part in view.values()) / 4)
    for weights in fused.router_weights:
        assert weights.keys() == {"text", "audio"}
        assert all(torch.equal(part, torch.full((3, 4), 0.25)) for part in weights.values())


@pytest.mark.parametrize("module", [MlpDisentangler(("audio", "text"), 8, 16), MeanFusion()])
def test_what_stands_in_takes_absence_as_the_blocks_do(module):
    views = [{name: torch.randn(3, 4, 8) for name in ("text", "audio")} for _ in range(2)]
    present = {"text": torch.tensor([True, True, False]), "audio": torch.tensor([True, False, False])}
    arguments = views if isinstance(module, MeanFusion) else views[:1]
    got, whole = module(*arguments, present=present), module(*arguments)
    if isinstance(module, MeanFusion):
        text_alone = MeanFusion()(*({"text": view["text"]} for view in views))
        torch.testing.assert_close(got.features[0], whole.features[0])
        torch.testing.assert_close(got.features[1], text_alone.features[1])
        assert not got.features[2].any()
        assert [weights["audio"][:, 0].tolist() for weights in got.router_weights] == [[0.25, 0, 0]] * 2
    else:
        for view, every in zip(got[:2], whole[:2], strict=True):
            for name, mask in present.items():
                assert torch.equal(view[name], torch.where(mask[:, None, None], every[name], 0))


@pytest.mark.parametrize(
    ("overrides", "gone", "fewer"),
    [
        ({"disentangler": "mlp"}, "fusion.disentangler.routers", True),
        ({"fusion": "mean"}, "fusion.modality_router", True),
        ({"reconstruction_levels": []}, "fusion.reconstructor", True),
        ({"reconstruction_levels": ["joint"]}, "fusion.reconstructor.networks.input", True),
    ],
)
def test_an_ablation_has_no_parameters_of_what_it_leaves_out_and_trains_all_it_has(overrides, gone, fewer):
    settings = {"modalities": ["audio", "vision"], "max_lengths": {"audio": 6, "vision": 5}}
    model = DerlModel(PRESETS["smoke"](**settings, **overrides)).train()
    whole = DerlModel(PRESETS["smoke"](**settings))
    assert any(name.startswith(gone) for name, _ in whole.named_parameters())
    assert not any(name.startswith(gone) for name, _ in model.named_parameters())
    inputs = {"audio": torch.randn(4, 6, 5), "vision": torch.randn(4, 5, 20)}
    keep = {name: torch.rand(part.shape[:2]) < 0.5 for name, part in inputs.items()}
    model(inputs, keep=keep, labels=torch.randn(4)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("field", ["disentangler", "fusion", "orthogonality_penalty"])
def test_a_misspelt_choice_is_named(field):
    with pytest.raises(Exception, match=f"expected {field} to be one of .*, got 'nonsense'"):
        DerlConfig(**{field: "nonsense"})
