"""Exported files answer as the model does, without it, and are written whole or not at all."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig

from derl.data.synthetic import make_synthetic
from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.predict import export
from derl_export import main

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
SHAPES = {  # batch size; text, audio and vision frames
    "the shortest": (1, 1, 1, 1),
    "the longest": (2, 50, 375, 500),
    "one of equal lengths": (1, 8, 8, 8),
    "many": (70, 3, 2, 4),
}
LOST = {"nothing": (), "text": ("text",), "audio and vision": ("audio", "vision"), "all": ("text", "audio", "vision")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny DERL with standardized features and its tokenizer, saved as a run saves it."""
    folder = tmp_path_factory.mktemp("export")
    tokenizer = make_synthetic(sizes=dict.fromkeys(("train", "valid", "test"), 12)).tokenizer
    text = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    for name, model_class in (("model", DerlModel), ("plain", PlainModel)):
        torch.manual_seed(0)
        model = model_class(DerlConfig.smoke(text_config=text, unk_token_id=1, special_token_ids=[0, 2, 3]))
        model.feature_mean.normal_()
        model.feature_scale.uniform_(0.5, 2)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return DerlModel.from_pretrained(folder / "model")


@pytest.fixture(scope="module")
def torch_file(folder):
    path = folder / "derl.pt2"
    assert main([str(folder), "--to", "torch", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def program(torch_file):
    return torch.export.load(torch_file).module()


@pytest.fixture(scope="module")
def onnx_file(folder):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    path = folder / "derl.onnx"
    assert main([str(folder / "model"), "--to", "onnx", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def session(onnx_file):
    import onnxruntime

    return onnxruntime.InferenceSession(onnx_file)


def make_batch(name, lost=()):
    size, *lengths = SHAPES[name]
    batch = {}
    for modality, length in zip(("text", "audio", "vision"), lengths, strict=True):
        width = {"audio": 5, "vision": 20}.get(modality)
        batch[modality] = torch.randint(5, 60, (size, length)) if width is None else torch.randn(size, length, width)
        real = torch.arange(length) < torch.randint(1, length + 1, (size, 1))
        batch[f"{modality}_mask"] = real
        batch[f"{modality}_keep"] = real & (torch.rand(size, length) > 0.4) & (modality not in lost)
    return batch


def answer(model, batch):
    """What a model answers to a batch by its own signature."""
    parts = ({m: batch[m + end] for m in model.config.modalities} for end in ("", "_mask", "_keep"))
    with torch.inference_mode():
        output = model(*parts)
    answers = {"prediction": output.prediction}
    if output.fusion_weights is not None:
        answers |= {"fusion_weights": output.fusion_weights}
        answers |= {f"expert_weights_{name}": part for name, part in output.expert_weights.items()}
    return answers


# torch


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_program_answers_as_the_model_for_any_batch_and_lengths(program, model, shape, lost):
    batch = make_batch(shape, lost)
    torch.testing.assert_close(program(batch), answer(model, batch), rtol=0, atol=1e-5)


def test_a_modality_that_some_samples_lack_is_not_seen(program, model):
    batch = make_batch("many")
    batch["audio_mask"][::2] = False
    batch["text_mask"][0] = batch["vision_mask"][0] = False  # the first has nothing at all
    expected = answer(model, batch)
    batch["audio"][::2] = torch.nan
    got = program(batch)
    assert got["prediction"].isfinite().all()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_program_holds_plain_operators_and_only_what_it_uses(torch_file):
    program = torch.export.load(torch_file)
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {name for name in operators if "::" in name or name.startswith("modx")} == set()
    assert any(name.startswith("aten.") for name in operators)
    assert not any("reconstructor" in name for name in program.state_dict)


def test_a_sequence_that_is_too_long_is_refused(program):
    batch = make_batch("one of equal lengths")
    for end in ("", "_mask", "_keep"):
        batch[f"text{end}"] = torch.cat([batch[f"text{end}"]] * 7, dim=1)
    with pytest.raises(AssertionError, match="<= 50"):
        program(batch)


def test_the_plain_baseline_is_exported_too(folder):
    path = folder / "plain.pt2"
    assert main([str(folder / "plain"), "--to", "torch", str(path)]) == 0
    batch = make_batch("many", ("audio",))
    got = torch.export.load(path).module()(batch)
    assert list(got) == ["prediction"]
    torch.testing.assert_close(got, answer(PlainModel.from_pretrained(folder / "plain"), batch), rtol=0, atol=1e-5)


def test_one_frame_a_sample_and_no_text_are_exported_too(tmp_path):
    config = DerlConfig.smoke(modalities=["audio"], input_dims={"audio": 5}, max_lengths={"audio": 1})
    model = DerlModel(config).eval()
    model.save_pretrained(tmp_path / "model")
    assert main([str(tmp_path / "model"), "--to", "torch", str(tmp_path / "a.pt2")]) == 0
    here = torch.tensor([[True], [False], [True]])
    batch = {"audio": torch.randn(3, 1, 5), "audio_mask": here, "audio_keep": here}
    got = torch.export.load(tmp_path / "a.pt2").module()(batch)
    torch.testing.assert_close(got, answer(model, batch), rtol=0, atol=1e-5)


# ONNX


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize("shape", SHAPES)
def test_onnxruntime_answers_as_the_model(session, model, shape, lost):
    batch = make_batch(shape, lost)
    check_onnx(session, model, batch)


def test_onnxruntime_does_not_see_a_modality_that_some_samples_lack(session, model):
    batch = make_batch("many")
    batch["audio_mask"][::2] = False
    batch["text_mask"][0] = batch["vision_mask"][0] = False
    check_onnx(session, model, batch)


def check_onnx(session, model, batch):
    expected = answer(model, batch)
    names = [output.name for output in session.get_outputs()]
    assert names == list(expected)
    answers = session.run(None, {name: part.numpy() for name, part in batch.items()})
    got = {name: torch.from_numpy(part) for name, part in zip(names, answers, strict=True)}
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_inputs_and_axes_have_names(session):
    axes = {part.name: part.shape for part in session.get_inputs()}
    assert axes["text_keep"] == ["batch", "text_length"]
    assert axes["vision"] == ["batch", "vision_length", 20]
    assert len(axes) == 9


def test_int8_makes_a_smaller_file_that_answers_nearly_as_the_model(folder, onnx_file, model):
    import onnx
    import onnxruntime

    path = folder / "int8.onnx"
    assert main([str(folder / "model"), "--to", "onnx", "--int8", str(path)]) == 0
    products = [node for node in onnx.load(path).graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == 6  # query, key, value, output and two of the feed-forward layer, in its one block
    batch = make_batch("one of equal lengths")
    feed = {name: part.numpy() for name, part in batch.items()}
    (got,) = onnxruntime.InferenceSession(path).run(["prediction"], feed)
    expected = answer(model, batch)["prediction"]
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=0.01)
    assert not torch.equal(torch.from_numpy(got), expected)


def test_int8_is_refused_where_it_would_do_nothing(folder, tmp_path, capsys):
    error = complaint(capsys, folder / "model", "--to", "torch", "--int8", tmp_path / "a.pt2")
    assert "--int8 expected --to onnx" in error


# the page


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
UNSEEN = "\nimport sys; assert not {unseen} & set(sys.modules)\n"


def run_block(index, folder, unseen):
    """Run the page's preprocessing and one of its blocks in a fresh interpreter that sees no checkout."""
    code = BLOCKS[0] + BLOCKS[index] + UNSEEN.format(unseen=unseen)
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [float(score) for score in re.findall(r"-?\d+\.\d+", done.stdout)]


@pytest.fixture(scope="module")
def torch_scores(folder, torch_file):
    return run_block(1, folder, {"modx", "transformers", "derl"})


def test_the_pages_torch_block_needs_torch_alone(torch_scores):
    assert len(torch_scores) == 2


@pytest.mark.usefixtures("onnx_file")
def test_the_pages_onnx_block_needs_onnxruntime_alone_and_answers_as_torchs(folder, torch_scores):
    scores = run_block(2, folder, {"modx", "transformers", "torch", "onnx", "derl"})
    assert scores == pytest.approx(torch_scores, abs=1e-3)


# errors


def complaint(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"architectures": ["BertModel"]}'])
def test_what_is_no_model_is_named(content, tmp_path, capsys):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    error = complaint(capsys, tmp_path, "--to", "torch", tmp_path / "a.pt2")
    expected = "expected a model" if content else "expected the folder of a run or of its model, found no config.json"
    assert f"{tmp_path}: {expected}" in error
    assert not (tmp_path / "a.pt2").exists()


@pytest.mark.parametrize("weights", [None, b"", b"torn"])
def test_a_model_without_whole_weights_is_named(weights, folder, tmp_path, capsys):
    shutil.copy(folder / "model" / "config.json", tmp_path)
    if weights is not None:
        (tmp_path / "model.safetensors").write_bytes(weights)
    assert "expected a model that derl_mosi.py saved" in complaint(
        capsys, tmp_path, "--to", "torch", tmp_path / "a.pt2"
    )


def test_an_unknown_target_is_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(folder / "model"), "--to", "tflite", str(tmp_path / "a.tflite")])
    assert "invalid choice: 'tflite'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.onnx", "expected a name that ends in .pt2"),
        ("there.pt2", "expected a new file, found one that exists"),
        ("nowhere/a.pt2", "expected a file in a folder that exists"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(name, message, folder, tmp_path, capsys):
    (tmp_path / "there.pt2").write_text("mine")
    assert message in complaint(capsys, folder / "model", "--to", "torch", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt2"]
    assert (tmp_path / "there.pt2").read_text() == "mine"


def test_what_onnx_needs_is_named(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    error = complaint(capsys, folder / "model", "--to", "onnx", tmp_path / "a.onnx")
    assert "pip install 'modx[deploy]'" in error


@pytest.mark.parametrize("failure", ["wrong answers", "not a number", "disk full"])
def test_a_file_is_written_whole_or_not_at_all(failure, folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a.pt2"
    out.write_text("the last one")

    def write(program, model, batch, path):
        path.write_text("half of it")
        if failure == "disk full":
            raise OSError(28, "No space left on device")
        off = 1e-3 if failure == "wrong answers" else torch.nan
        return lambda parts: {name: part + off for name, part in model(parts).items()}

    monkeypatch.setitem(export.WRITERS, "torch", write)
    error = complaint(capsys, folder / "model", "--to", "torch", out, "--overwrite")
    assert ("No space left" if failure == "disk full" else "expected answers within 0.0001") in error
    assert out.read_text() == "the last one"
    assert list(tmp_path.iterdir()) == [out]


def test_overwrite_replaces_a_file(folder, torch_file, tmp_path):
    out = tmp_path / "a.pt2"
    out.write_text("the last one")
    assert main([str(folder / "model"), "--to", "torch", str(out), "--overwrite"]) == 0
    torch.export.load(out)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["torch", "onnx"])
@pytest.mark.parametrize("dropped", ["erased", "absent"])
def test_a_classifier_is_exported_and_answers_with_the_same_logits(tmp_path, target, dropped):
    if target == "onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(name)
    torch.manual_seed(0)
    classes = {0: "no", 1: "yes", 2: "maybe"}
    config = DerlConfig.smoke(
        modalities=["audio", "vision"],
        problem_type="single_label_classification",
        id2label=classes,
        class_shares=[0.5, 0.3, 0.2],
        dropped_modality=dropped,
        sentiment=False,
    )
    model = DerlModel(config).eval()
    model.save_pretrained(tmp_path)
    path = tmp_path / f"classes{export.SUFFIXES[target]}"
    assert main([str(tmp_path), "--to", target, str(path)]) == 0
    run = torch.export.load(path).module() if target == "torch" else export._open_onnx(path, ["prediction"])
    for batch in export.sample_batches(config):
        parts = ({name: batch[name + suffix] for name in config.modalities} for suffix in ("", "_mask", "_keep"))
        with torch.inference_mode():
            logits = model(*parts).prediction
        assert logits.shape[1] == len(classes)
        torch.testing.assert_close(run(batch)["prediction"], logits, rtol=1e-4, atol=1e-4)
