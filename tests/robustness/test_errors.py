"""Every argument of every public callable: a wrong value is refused, and the error says what to do."""

import ast
import re
from pathlib import Path

import pytest

import errors
from errors import ELSEWHERE, EXEMPT, EXEMPT_ARGUMENTS, ROWS, VALID, Row, caught, has_remedy, origins, public, raises

ROOT = Path(__file__).parents[2]
# an argument that holds a tensor for every modality is named by the modality
PARTS = {"features", "inputs", "masks", "views", "reconstruction", "target_features", "disentangled"}


def describe(row: Row) -> str:
    value = f"tensor{tuple(row.value.shape)}" if hasattr(row.value, "shape") else repr(row.value)
    return f"{row.name}-{row.argument}-{value[:30]}"


@pytest.mark.parametrize("name", VALID)
def test_a_right_call_is_not_refused(name):
    function, arguments = VALID[name]
    function(**arguments)


@pytest.mark.parametrize("row", ROWS, ids=describe)
def test_a_wrong_argument_is_named_with_what_was_expected_what_came_and_the_remedy(row):
    error = caught(row)
    assert type(error) is row.error, error
    message = str(error)
    assert row.words in message
    assert re.match(r"\w+ (expected|cannot run) ", message)
    named = [
        row.argument,
        row.argument.removeprefix("num_"),
        *(["modalities", "'a'", "private", "shared"] if row.argument in PARTS else []),
        *(["target"] if row.argument == "preds" else []),  # which are held against each other
    ]
    assert any(name in message.partition("expected")[2] or name in message.partition("cannot run")[2] for name in named)
    assert ", got " in message or "cannot run" in message
    assert has_remedy(message), message


def test_every_argument_of_every_public_callable_is_in_the_list():
    listed = {(row.name, row.argument) for row in ROWS}
    wanted = {
        (name, argument)
        for name, arguments in public().items()
        for argument in arguments
        if name not in EXEMPT and argument not in EXEMPT_ARGUMENTS
    }
    assert listed == wanted


def test_what_is_exempt_exists_and_a_callable_without_arguments_is_exempt():
    callables = public()
    assert callables.keys() >= EXEMPT.keys()
    assert {name for name, arguments in callables.items() if not set(arguments) - {"kwargs"}} <= {
        *EXEMPT,
        "modx.metrics.SentimentMetrics",
        "modx.metrics.SentimentMetrics.compute",
    }


def test_every_raise_and_every_check_is_reached():
    reached = {place for row in ROWS if (error := caught(row)) for place in origins(error)}
    missed = {place: key for place, key in raises().items() if place not in reached and key not in ELSEWHERE}
    assert not missed
    assert set(ELSEWHERE) <= set(raises().values())


@pytest.mark.parametrize("named", ELSEWHERE.values())
def test_a_raise_that_is_tested_elsewhere_is_tested_there(named):
    path, _, name = named.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_list_in_the_repository_is_the_one_of_today(capsys, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    errors.main()
    assert (Path(__file__).parent / "errors.txt").read_text() == capsys.readouterr().out
