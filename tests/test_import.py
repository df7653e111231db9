"""What ``import modx`` loads, in a process that has loaded nothing else."""

import subprocess
import sys

import pytest

MEANT = {"modx", "einops", "torch"} | sys.stdlib_module_names


def packages_loaded_by(statement: str) -> set[str]:
    """Packages of the modules that a statement loads beyond those that torch has loaded."""
    code = f"import sys, torch; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return {module.partition(".")[0] for module in modules}


def test_the_library_loads_nothing_but_itself_and_einops():
    loaded = packages_loaded_by("import modx")
    assert "modx" in loaded
    assert loaded <= MEANT


@pytest.mark.parametrize("package", ["triton", "torchmetrics"])
def test_an_optional_package_is_loaded_by_the_module_that_needs_it(package):
    pytest.importorskip(package)
    module = {"triton": "modx.ops.triton", "torchmetrics": "modx.metrics"}[package]
    assert package in packages_loaded_by(f"import {module}")
