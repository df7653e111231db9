"""Weight decay acts on weights, not on biases, scales and temperatures."""

import pytest
from torch import nn
from transformers import BertConfig, T5Config, T5EncoderModel

from derl import MODELS, DerlConfig, DerlModel, PlainModel
from derl.train.decay import decayed
from derl.train.options import parse
from derl.train.trainer import make_optimizer
from modx import Experts

TEXT = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)


def make_model(model_class=DerlModel, **sizes):
    return model_class(DerlConfig.smoke(text_config=TEXT, **sizes))


def test_no_bias_of_a_bank_is_decayed():
    model = make_model()
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    banks = {name for name, module in model.named_modules() if isinstance(module, Experts)}
    biases = {f"{bank}.{bias}" for bank in banks for bias in ("b1", "b2")}
    assert len(biases) == 20
    assert biases < matrices
    assert decayed(model) == matrices - biases


@pytest.mark.parametrize("sizes", [{"disentangler": "mlp"}, {"fusion": "mean"}, {"reconstruction_levels": []}])
def test_nor_is_one_of_an_ablation(sizes):
    names = decayed(make_model(**sizes))
    assert not [name for name in names if name.split(".")[-1] in ("b1", "b2", "bias", "log_temperature")]
    assert [name for name in names if name.endswith("w1")]


def test_the_optimizer_decays_what_is_decayed_and_holds_every_parameter_once():
    model, options = make_model(), parse(["--weight_decay", "0.125"])
    groups = make_optimizer(model, options).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = [(names[id(part)], group) for group in groups for part in group["params"]]
    assert sorted(name for name, _ in held) == sorted(names.values())
    assert {name for name, group in held if group["weight_decay"]} == decayed(model)
    assert {group["weight_decay"] for group in groups} == {0.0, 0.125}
    for name, group in held:
        text = name.startswith("text_encoder")
        assert group["lr"] == (options.text_learning_rate if text else options.learning_rate)


@pytest.mark.parametrize("average_decay", ["0", "0.9"])
def test_the_optimizer_is_fused_also_when_it_averages(average_decay):
    optimizer = make_optimizer(make_model(), parse(["--average_decay", average_decay]))
    assert optimizer.defaults["fused"]
    assert all(group["fused"] for group in optimizer.param_groups)


def test_the_plain_baseline_decays_the_weights_of_its_head_and_its_encoder():
    names = decayed(make_model(PlainModel))
    assert "head.weight" in names
    assert not [name for name in names if "LayerNorm" in name or name.endswith("bias")]


@pytest.mark.parametrize("model_class", MODELS.values(), ids=MODELS)
def test_every_model_decays_its_weights_and_no_bias(model_class):
    model = make_model(model_class, core=dict(model_class.smoke))
    names = decayed(model)
    leaves = {name: name.rpartition(".")[2] for name, _ in model.named_parameters()}
    norms = {name for name, module in model.named_modules() if type(module).__name__.endswith("Norm")}
    biases = {name for name, leaf in leaves.items() if leaf in ("b1", "b2") or "bias" in leaf}
    weights = {name for name, leaf in leaves.items() if leaf in ("w1", "w2") or "weight" in leaf}
    assert biases
    assert not names & biases
    assert names >= {name for name in weights if name.rpartition(".")[0] not in norms}


def test_norms_without_a_bias_are_norms_too():
    names = decayed(T5EncoderModel(T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)))
    assert names
    assert not [name for name in names if "norm" in name]


def test_a_layer_alone_is_named_without_a_dot():
    assert decayed(nn.Linear(2, 3)) == {"weight"}
