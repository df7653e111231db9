"""A checkpoint of other sizes: what does not fit is initialized, and what fits is loaded."""

import logging

import pytest
import torch
from transformers import BertConfig

from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel

TEXT = {"vocab_size": 110, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def config(hidden_size=16, **sizes):
    return DerlConfig.smoke(text_config=BertConfig(hidden_size=hidden_size, **TEXT), **sizes)


def load(folder, model_class=DerlModel, **sizes):
    return model_class.from_pretrained(
        folder, config=config(**sizes), ignore_mismatched_sizes=True, output_loading_info=True
    )


@pytest.fixture
def saved(tmp_path):
    model = DerlModel(config())
    with torch.no_grad():
        for part in model.state_dict().values():
            part.add_(100)  # nothing that is drawn comes near
    model.save_pretrained(tmp_path)
    return tmp_path, model.state_dict()


@pytest.mark.parametrize(
    "sizes",
    [
        {"dim": 32},
        {"head_dim": 4},
        {"num_private_experts": 2},
        {"num_shared_experts": 1},
        {"num_tokens": 6, "max_lengths": {"text": 60, "audio": 300, "vision": 40}},
        {"input_dims": {"audio": 7, "vision": 20}},
        {"expert_dim": 40, "router_dim": 11, "reconstructor_dim": 9, "ffn_dim": 12},
        {"hidden_size": 24},
        {"disentangler": "mlp", "expert_dim": 40},
    ],
    ids=str,
)
def test_what_does_not_fit_is_drawn_as_for_a_new_model_and_the_rest_is_loaded(saved, sizes, caplog):
    folder, weights = saved
    caplog.set_level(logging.ERROR)  # transformers' table of what does not fit
    model, info = load(folder, **sizes)
    new = {name for name, *_ in info["mismatched_keys"]} | set(info["missing_keys"])
    fresh = DerlModel(config(**sizes)).state_dict()
    assert new
    for name, part in model.state_dict().items():
        if name not in new:
            assert torch.equal(part, weights[name]), name
            continue
        assert part.isfinite().all(), name
        assert part.shape == fresh[name].shape
        if part.numel() > 100:
            torch.testing.assert_close(part.std(), fresh[name].std(), rtol=0.25, atol=1e-6)
            torch.testing.assert_close(part.mean(), fresh[name].mean(), rtol=0.1, atol=0.1)
        else:  # too few for statistics
            assert part.abs().max() <= 3 * fresh[name].abs().max() + 0.1, name


def test_a_bank_of_experts_that_fits_in_part_keeps_the_part(saved):
    folder, weights = saved
    model, info = load(folder, expert_dim=40)
    bank, experts = "fusion.disentangler.experts.", model.fusion.disentangler.experts
    assert {name for name, *_ in info["mismatched_keys"]} == {bank + "w1", bank + "b1", bank + "w2"}
    assert torch.equal(experts.b2, weights[bank + "b2"])
    assert 0 < experts.w2.abs().max() <= 40**-0.5
    assert 0 < experts.b1.abs().max() <= 16**-0.5


def test_the_statistics_of_features_of_another_width_change_nothing(saved):
    folder, _ = saved
    model, _ = load(folder, input_dims={"audio": 7, "vision": 20})
    assert torch.equal(model.feature_mean, torch.zeros(27))
    assert torch.equal(model.feature_scale, torch.ones(27))


def test_weights_that_a_checkpoint_lacks_are_drawn(saved):
    folder, weights = saved
    model, info = load(folder, PlainModel)
    assert info["missing_keys"] or info["mismatched_keys"]
    assert model.head.weight.abs().max() <= model.head.in_features**-0.5
    assert torch.equal(model.feature_mean, weights["feature_mean"])


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_a_new_model_keeps_what_the_constructors_drew(model_class, monkeypatch):
    torch.manual_seed(0)
    model = model_class(config())
    monkeypatch.setattr(model_class, "init_weights", lambda self: None)
    torch.manual_seed(0)
    other = model_class(config())
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
