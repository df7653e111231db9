"""CENET inside a Hugging Face encoder: which layer's input is enhanced, in which calls, and in which encoders."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
import torch
from tiny import tiny_text
from transformers import AlbertConfig, AutoModel, DistilBertConfig

from derl import DerlConfig
from derl.model.cenet import CenetModel

LENGTHS = {"text": 9, "audio": 12, "vision": 10}


def make(text_config=None, **settings):
    torch.manual_seed(0)
    text_config = tiny_text(layers=3) if text_config is None else text_config
    return CenetModel(DerlConfig.smoke(text_config=text_config, max_lengths=LENGTHS, **settings)).eval()


def batch():
    torch.manual_seed(1)
    inputs = {"text": torch.randint(103, 130, (3, 7)), "audio": torch.randn(3, 12, 5), "vision": torch.randn(3, 8, 20)}
    masks = {name: torch.rand(part.shape[:2]) < 0.7 for name, part in inputs.items()}
    masks["text"][:, 0] = True
    return inputs, masks


def test_the_input_of_the_second_layer_is_enhanced():
    model, (inputs, masks) = make(), batch()
    encoder, core = model.text_encoder, model.core
    ids = inputs["text"].masked_fill(~masks["text"], 0)
    shown = masks["text"][:, None, None]
    states = encoder.encoder.layer[0](encoder.embeddings(ids), shown)
    found = [core.attend[name](states, core.transforms[name](inputs[name]), masks[name]) for name in core.attend]
    states = states + core.shift(torch.cat(found, dim=-1))
    for layer in encoder.encoder.layer[1:]:
        states = layer(states, shown)
    expected = core.head(core.hidden(states[:, 0])).squeeze(1)
    torch.testing.assert_close(model(inputs, masks).prediction, expected)


@pytest.mark.parametrize(
    "text_config", [tiny_text(layers=1), DistilBertConfig(vocab_size=130, n_layers=2, n_heads=2, dim=16, hidden_dim=16)]
)
def test_encoders_of_one_layer_and_of_other_kinds_are_enhanced(text_config):
    model, (inputs, masks) = make(text_config), batch()
    expected = model(inputs, masks).prediction
    inputs["audio"] += 1
    assert (model(inputs, masks).prediction != expected).all()


def test_a_pretrained_encoder_is_enhanced(tmp_path):
    AutoModel.from_config(tiny_text(layers=2)).save_pretrained(tmp_path)
    config = DerlConfig.smoke(max_lengths=LENGTHS)
    model, (inputs, masks) = CenetModel.from_text_pretrained(str(tmp_path), config).eval(), batch()
    expected = model(inputs, masks).prediction
    inputs["audio"] += 1
    assert (model(inputs, masks).prediction != expected).all()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_enhanced_by_its_own_core(copied):
    model, given = make(), batch()
    other = copied(model)
    assert torch.equal(other(*given).prediction, model(*given).prediction)
    with torch.no_grad():
        other.core.shift.bias += torch.arange(16)
    assert (other(*given).prediction != model(*given).prediction).all()


def test_the_encoder_alone_is_not_enhanced_and_nor_is_a_call_in_another_thread():
    model, (inputs, masks) = make(), batch()
    plain = AutoModel.from_config(model.config.text_config).eval()
    plain.pooler = None
    plain.load_state_dict(model.text_encoder.state_dict())
    expected = plain(inputs["text"]).last_hidden_state
    found = []

    def elsewhere(layer, args):
        with ThreadPoolExecutor() as pool:
            found.append(pool.submit(lambda: model.text_encoder(inputs["text"]).last_hidden_state).result())

    with patch.object(model.core.shift, "forward", wraps=model.core.shift.forward) as shift:
        handle = model.core.attend["audio"].register_forward_pre_hook(elsewhere)  # amid a call
        model(inputs, masks)
        handle.remove()
    assert shift.call_count == 1
    found.append(model.text_encoder(inputs["text"]).last_hidden_state)
    for states in found:
        torch.testing.assert_close(states, expected)


def test_an_encoder_whose_layers_are_one_is_refused():
    config = AlbertConfig(vocab_size=130, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with pytest.raises(
        ValueError, match="text encoder with a list of its 2 layers, as BERT has, got AlbertModel; name"
    ):
        make(config)


def test_without_text_the_first_modality_is_enhanced_and_no_encoder_follows():
    model, (inputs, masks) = make(modalities=("vision", "audio")), batch()
    given = {name: inputs[name] for name in ("audio", "vision")}
    torch.testing.assert_close(
        model(given, {name: masks[name] for name in given}).prediction, model.core(given, masks).prediction.squeeze(1)
    )
