"""What an import loads, in a process that has loaded nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
MEANT = {"modx", "einops", "torch"} | sys.stdlib_module_names


def packages_loaded_by(*modules: str) -> dict[str, set[str]]:
    """The packages that each module loads beyond those that torch and the modules before it have loaded."""
    code = """
import contextlib, importlib, json, sys, torch
loaded, before = {}, set(sys.modules)
for name in sys.argv[1:]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
    loaded[name] = sorted({module.partition(".")[0] for module in set(sys.modules) - before})
    before = set(sys.modules)
print(json.dumps(loaded))
"""
    environment = os.environ | {"PYTHONPATH": f"{TOP}{os.pathsep}{TOP / 'examples'}"}
    printed = subprocess.check_output([sys.executable, "-c", code, *modules], env=environment, text=True)
    return {name: set(packages) for name, packages in json.loads(printed).items()}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """One process for all, since most of its time is torch's own import."""
    return packages_loaded_by("modx", "modx.ops.triton", "modx.metrics")


def test_the_library_loads_nothing_but_itself_and_einops(loaded):
    assert "modx" in loaded["modx"]
    assert loaded["modx"] <= MEANT


@pytest.mark.parametrize("package", ["triton", "torchmetrics"])
def test_an_optional_package_is_loaded_by_the_module_that_needs_it(loaded, package):
    pytest.importorskip(package)
    assert package in loaded[{"triton": "modx.ops.triton", "torchmetrics": "modx.metrics"}[package]]


def test_the_other_examples_load_neither_the_sentiment_example_nor_transformers():
    commands = "icu_mortality", "actions_mhad", "digits_views"  # the last's package is not of the first
    loaded = packages_loaded_by(*commands)
    for name in commands:
        assert name in loaded[name]
        assert {"derl", "transformers"}.isdisjoint(loaded[name])
    assert "digits" not in loaded["icu_mortality"]
