"""The whole model under the tools that people use: adapters, offloading, quantization, replicas."""

import pytest
import torch
from accelerate import cpu_offload
from tiny import tiny_text
from torch import nn
from torch.ao.quantization import quantize_dynamic

from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from modx import Experts
from wrappers import adapt, replicate, train_adapters

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks by this name
both = pytest.mark.parametrize("model_class", [DerlModel, PlainModel])


def make_model(model_class=DerlModel):
    return model_class(DerlConfig.smoke(text_config=tiny_text(110), consistency_weight=1.0, complete_weight=1.0))


def make_batch():
    inputs = {
        "text": torch.randint(3, 110, (6, 7)),
        "audio": torch.randn(6, 9, 5),
        "vision": torch.randn(6, 8, 20),
    }
    masks = {name: torch.ones(part.shape[:2], dtype=torch.bool) for name, part in inputs.items()}
    keep = {name: torch.rand(mask.shape) < 0.5 for name, mask in masks.items()}
    return {"inputs": inputs, "masks": masks, "keep": keep, "labels": torch.randn(6)}


def predict(model, batch):
    with torch.no_grad():
        return model.eval()(**batch).prediction


@both
def test_adapters_on_every_layer_are_trained_and_merged(model_class):
    model, batch = make_model(model_class), make_batch()
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    banks = [name for name, part in model.named_modules() if isinstance(part, Experts)]
    before = predict(model, batch)
    adapted = adapt(model).train()
    adapters = [name for name, _ in adapted.named_parameters() if "lora_B" in name]
    assert len(adapters) == len(linear) + 2 * len(banks)
    train_adapters(adapted, lambda: adapted(**batch).loss)
    after = predict(adapted, batch)
    assert (after - before).abs().max() > 0.01
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(predict(merged, batch), after, rtol=1e-5, atol=1e-5)
    assert type(merged) is model_class


@both
def test_merged_adapters_are_saved_and_loaded(model_class, tmp_path):
    batch = make_batch()
    adapted = adapt(make_model(model_class)).train()
    train_adapters(adapted, lambda: adapted(**batch).loss)
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path)
    assert torch.equal(predict(model_class.from_pretrained(tmp_path), batch), predict(merged, batch))


@both
def test_every_adapter_moves_the_loss(model_class):
    batch = make_batch()
    adapted = adapt(make_model(model_class)).train()
    expected = adapted(**batch).loss
    with torch.no_grad():
        for name, part in adapted.named_parameters():
            if "lora_B" in name:
                part.normal_()  # equal numbers would vanish in a LayerNorm
                assert adapted(**batch).loss != expected, name
                part.zero_()


@both
def test_weights_can_be_offloaded(model_class):
    model, batch = make_model(model_class), make_batch()
    expected = predict(model, batch)
    away = cpu_offload(model, execution_device=torch.device("cpu"))
    assert {part.device.type for part in away.parameters()} == {"meta"}
    torch.testing.assert_close(predict(away, batch), expected, rtol=1e-5, atol=1e-5)


@both
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.ao moves to torchao
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_linear_layers_can_be_quantized(model_class):
    model, batch = make_model(model_class), make_batch()
    expected = predict(model, batch)
    quantized = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not [part for part in quantized.modules() if type(part) is nn.Linear]
    torch.testing.assert_close(predict(quantized, batch), expected, rtol=0.1, atol=0.05)


@both
def test_a_replica_of_data_parallel_trains_the_model(model_class):
    model, batch = make_model(model_class).train(), make_batch()
    model(**batch).loss.backward()
    want = {name: part.grad for name, part in model.named_parameters()}
    model.zero_grad()
    replica = replicate(model)
    assert not list(replica.parameters())
    replica(**batch).loss.backward()
    assert all(torch.equal(part.grad, want[name]) for name, part in model.named_parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert replica(**batch).prediction.dtype == torch.float32
