"""Where operands lie in memory: MKL may sum in another order, so a loaded model owns its weights as a made one does."""

import json
import os
import struct
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertModel

from derl.data.synthetic import make_synthetic
from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.predict.predictor import Predictor
from reproducible_matmul import OFFSETS, SHAPES, at_offset

COUNT = "import reproducible_matmul; print(*reproducible_matmul.count_moved())"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_address_changes_a_matmul_by_rounding_at_most(shape):
    rows, width, columns = shape
    x, w = torch.randn(rows, width), torch.randn(columns, width)
    expected = F.linear(x.double(), w.double())
    scale = F.linear(x.double().abs(), w.double().abs())
    for offset in (0, *OFFSETS):
        for a, b in ((offset, 0), (0, offset)):
            first, second = ((at_offset(x, a), at_offset(w, b)) for _ in range(2))  # both alive: at other addresses
            found = F.linear(*first)
            assert ((found - expected).abs() <= width * 2**-24 * scale).all(), (a, b)
            assert torch.equal(found, F.linear(*second)), "the same offsets, elsewhere"


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="MKL_CBWR is a setting of MKL's")
def test_under_mkl_cbwr_no_address_changes_a_bit():
    environment = os.environ | {"MKL_CBWR": "AUTO,STRICT", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, env=environment, timeout=300)
    assert done.stdout.split() == ["0", str(len(SHAPES))], done.stderr


@pytest.fixture(scope="module")
def made():
    return make_synthetic(sizes={"train": 17, "valid": 6, "test": 6}, max_lengths={"text": 12, "audio": 9, "vision": 8})


def small_bert(made):
    return BertConfig(
        vocab_size=len(made.tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )


def make_model(model_class, made):
    widths = {name: part.shape[2] for name, part in made.splits["train"].features.items()}
    lengths = {"text": 14, "audio": 9, "vision": 8}
    return model_class(DerlConfig(text_config=small_bert(made), input_dims=widths, max_lengths=lengths))


def make_batch(made, count):
    torch.manual_seed(count)
    features = made.splits["train"].features
    inputs = {"text": torch.randint(5, len(made.tokenizer), (count, 11))}
    inputs |= {name: part[:count].clone() for name, part in features.items()}
    keep = {name: torch.rand(part.shape[:2]) > 0.4 for name, part in inputs.items()}
    return {"inputs": inputs, "keep": keep, "labels": torch.randn(count)}


def misaligned_weights(path):
    """How many tensors of a safetensors file would not lie at a multiple of 64 if the file were mapped."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    starts = [entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"]
    return sum((8 + length + start) % 64 > 0 for start in starts)


@pytest.mark.parametrize("model_class", [DerlModel, PlainModel])
def test_a_loaded_model_has_the_bits_of_the_model_that_was_saved(model_class, made, tmp_path):
    model = make_model(model_class, made)
    model.save_pretrained(tmp_path)
    assert misaligned_weights(tmp_path / "model.safetensors") > 0
    loaded = model_class.from_pretrained(tmp_path)
    assert_aligned(loaded)
    for count in (1, 3, 17):
        batch = make_batch(made, count)
        results = []
        for each in (model.eval(), loaded.eval()):
            each.zero_grad()
            prediction = each(**batch).prediction
            each(**batch).loss.backward()
            results.append([prediction, *(part.grad for part in each.parameters() if part.grad is not None)])
        assert all(map(torch.equal, *results))


def test_so_have_a_predictor_and_a_pretrained_text_encoder(made, tmp_path):
    model = make_model(DerlModel, made)
    model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    loaded = Predictor.from_pretrained(tmp_path / "model").model
    assert_aligned(loaded)
    batch = make_batch(made, 3)
    assert torch.equal(loaded(**batch).prediction, model.eval()(**batch).prediction)
    encoder = BertModel(small_bert(made)).eval()
    encoder.save_pretrained(tmp_path / "encoder")
    assert misaligned_weights(tmp_path / "encoder" / "model.safetensors") > 5
    loaded = DerlModel.from_text_pretrained(str(tmp_path / "encoder"), model.config).eval()
    assert_aligned(loaded)
    ids = batch["inputs"]["text"]
    assert torch.equal(loaded.text_encoder(ids).last_hidden_state, encoder(ids).last_hidden_state)


def assert_aligned(model):
    elsewhere = [name for name, part in model.state_dict(keep_vars=True).items() if part.data_ptr() % 64]
    assert elsewhere == []
