"""A third model: a few lines, registered once, and every command knows it."""

import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn
from transformers import AutoModel

import derl_export
import derl_mosi
import derl_predict
from derl.data.split import DataError
from derl.model.baseline import PlainModel
from derl.model.config import DerlConfig
from derl.model.derl import DerlModel
from derl.model.registry import MODELS, register_model
from derl.model.saved import read_model
from derl.train.options import parse

PAGE = Path(__file__).parents[3] / "docs" / "extending.md"


@pytest.fixture(autouse=True)
def models():
    with patch.dict(MODELS):
        yield


@pytest.fixture
def page():
    """What the script of the page defines, after it has registered its model."""
    code = "# my_model.py\n" + PAGE.read_text().partition("```python\n# my_model.py\n")[2].partition("```")[0]
    namespace = {"__name__": "my_model"}
    exec(compile(code, "my_model.py", "exec"), namespace)
    return namespace


def run(command, name, *arguments):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [name, *map(str, arguments)])
        return command()


@pytest.mark.slow
def test_a_registered_model_is_trained_exported_and_asked_by_the_commands(page, tmp_path, capsys):
    folder, file = tmp_path / "run", tmp_path / "length.pt2"
    smoke = ("--preset", "smoke", "--epochs", "1", "--batch_size", "48", "--select_metric", "last")
    assert run(derl_mosi.main, "derl_mosi.py", *smoke, "--model", "length", "--output_dir", folder) == 0
    assert "length on synthetic MOSI" in capsys.readouterr().out
    assert type(read_model(folder / "model")) is page["LengthModel"]
    assert run(derl_export.main, "derl_export.py", folder, "--to", "torch", file) == 0
    half = {f"{name}_keep": torch.tensor([[True, False]]) for name in ("text", "audio", "vision")}
    batch = {"text": torch.tensor([[5, 6]]), "audio": torch.zeros(1, 2, 5), "vision": torch.zeros(1, 2, 20)} | half
    batch |= {f"{name}_mask": torch.ones(1, 2, dtype=torch.bool) for name in ("text", "audio", "vision")}
    head = read_model(folder / "model").head
    expected = (head.weight.sum() / 2 + head.bias).item()
    assert torch.export.load(file).module()(batch)["prediction"].item() == pytest.approx(expected, abs=1e-6)
    capsys.readouterr()
    assert run(derl_predict.main, "derl_predict.py", folder, "--text", "great ship") == 0
    assert capsys.readouterr().out.startswith("score ")


def test_a_model_that_is_not_registered_here_is_named(page, tmp_path):
    del MODELS["length"]
    page["LengthModel"](DerlConfig.smoke(modalities=["audio"])).save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"one of the classes DerlModel, PlainModel, .*, found LengthModel; register"):
        read_model(tmp_path)


@pytest.mark.usefixtures("page")
def test_a_registered_model_is_a_choice_of_the_command_and_of_auto_model(tmp_path, capsys):
    assert parse(["--model", "length"]).model == "length"
    for name, model_class in MODELS.items():
        model_class(DerlConfig.smoke(modalities=["audio"])).save_pretrained(tmp_path / name)
        assert type(AutoModel.from_pretrained(tmp_path / name)) is model_class
    with pytest.raises(SystemExit):
        parse(["--model", "width"])
    assert "'length'" in capsys.readouterr().err


def test_a_name_or_a_class_that_is_taken_is_refused():
    other, known = type("Other", (PlainModel,), {"label": "other"}), dict(MODELS)
    for name, model_class in (("plain", other), ("other", type("Other", (PlainModel,), {}))):
        with pytest.raises(ValueError, match="a name, a label and a class name of its own, got those of 'plain'"):
            register_model(name, model_class)
    with pytest.raises(TypeError, match="expected a subclass of SentimentModel"):
        register_model("linear", nn.Linear)
    assert known == MODELS
    assert (MODELS["derl"], MODELS["plain"]) == (DerlModel, PlainModel)
