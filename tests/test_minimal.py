"""The minimal example: what it prints, and what it takes to run it."""

import ast
from pathlib import Path

import pytest
import torch

import minimal


@pytest.mark.slow
def test_the_fusion_beats_concatenation_whatever_is_missing(capsys):
    found = minimal.main()
    assert list(found) == ["nothing", "half of all frames", "video", "audio"]
    assert all(values["fusion"] > values["concatenation"] + 10 for values in found.values())
    assert found["nothing"]["fusion"] > 90
    printed = capsys.readouterr().out
    assert all(f"{value:.1f}%" in printed for values in found.values() for value in values.values())


def test_both_models_train_and_answer_in_a_short_run(capsys, monkeypatch):
    for name, value in {"SAMPLES": 60, "TRAIN": 40, "EPOCHS": 1}.items():
        monkeypatch.setattr(minimal, name, value)
    found = minimal.main()
    assert all(values.keys() == {"fusion", "concatenation"} for values in found.values())
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(found)


@pytest.mark.parametrize("model", [minimal.Fusion, minimal.Concatenation])
def test_what_is_missing_is_never_read(model):
    inputs, masks, _ = minimal.load()
    inputs, masks = (minimal.take(parts, slice(8)) for parts in (inputs, masks))
    keep = minimal.drop(masks, 0.5, "frames+modalities")
    module = model().eval()
    expected, _ = module(inputs, masks, keep)
    spoiled = {name: part.masked_fill(~keep[name][..., None], torch.nan) for name, part in inputs.items()}
    assert torch.equal(module(spoiled, masks, keep)[0], expected)


def test_it_is_one_short_file_that_needs_the_library_alone():
    text = Path(minimal.__file__).read_text()
    tree = ast.parse(text)
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} == {"torch", "modx"}
    assert len(text.splitlines()) <= 150
