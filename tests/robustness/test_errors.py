"""Every wrong call says which argument, what was expected, what came and what to do."""

import ast
import re
import traceback
from pathlib import Path

import errors
import pytest

import modx
from modx import losses, metrics, missing, ops

ROOT = Path(__file__).parents[2]
TAKE_NOTHING_WRONG = {  # results, names and a warning: nobody calls them with input of one's own
    *("Disentangled", "Reconstruction", "Fused", "ReconstructionLoss", "Choice", "ConstantInputWarning"),
    *("PATTERNS", "INDEPENDENT_PATTERNS", "losses", "missing", "ops"),
}
ELSEWHERE = {  # raised where torchmetrics is missing, and by the kernels' second derivative
    ("metrics.py", "ImportError"): "tests/test_import.py",
    ("register.py", "NotImplementedError"): "tests/ops/test_triton.py",
}


def names(row):
    """What a message may call the argument: by its name, or the part of it that is wrong."""
    parts = {
        "x": ["x", "w1"],
        "modalities": ["modalities"],
        "input_dims": ["input_dims", "modalities"],
        "inputs": ["modalities", "'text'"],
        "features": ["modalities", "'text'", "'audio'", "inputs", "input 0", "input 1"],
        "masks": ["masks", "mask"],
        "private": ["private", "modalities"],
        "shared": ["shared", "modalities"],
        "disentangled": ["modalities"],
        "target_features": ["target", "modalities"],
        "pattern": ["parse_pattern"],
    }
    return parts.get(row.argument, [row.argument])


@pytest.mark.parametrize("row", errors.ROWS, ids=lambda row: f"{row.owner}-{row.argument}")
def test_a_wrong_call_says_all_four(row):
    error = errors.fail(row)
    message = str(error)
    assert type(error) is ValueError
    assert any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) for name in names(row)), message
    assert " expected " in message or " cannot " in message, message
    assert ", got " in message or " cannot " in message, message
    assert re.search(r"; \S.*\.$", message), message


def test_the_list_is_that_of_the_page():
    assert (ROOT / "docs" / "errors.md").read_text() == errors.page() + "\n"


def test_every_public_callable_is_on_the_list():
    modules = (modx, ops, missing, losses, metrics)
    public = {name for module in modules for name in getattr(module, "__all__", ()) if name != "__version__"}
    public |= {
        name for module in (losses, metrics) for name, part in vars(module).items() if _is_own(module, name, part)
    }
    assert public - TAKE_NOTHING_WRONG == {row.owner for row in errors.ROWS}


def _is_own(module, name, part):
    return callable(part) and not name.startswith("_") and getattr(part, "__module__", "") == module.__name__


def test_every_raise_is_reached():
    reached = set()
    for row in errors.ROWS:
        frame = traceback.extract_tb(errors.fail(row).__traceback__)[-1]
        reached.add((Path(frame.filename).resolve(), frame.lineno))
    missed, count = [], 0
    for path in sorted((ROOT / "modx").rglob("*.py")):
        if "kernels" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                count += 1
                kind = (path.name, ast.unparse(node.exc.func))
                lines = {(path.resolve(), line) for line in range(node.lineno, node.end_lineno + 1)}
                if kind not in ELSEWHERE and not lines & reached:
                    missed.append(f"{path.name}:{node.lineno}")
    assert count > 35
    assert missed == []


@pytest.mark.parametrize(("kind", "test"), ELSEWHERE.items())
def test_the_others_are_tested_where_they_are_said_to_be(kind, test):
    text = (ROOT / test).read_text()
    assert kind[1] in text or "torchmetrics" in text
