import ast
from pathlib import Path

import pytest

DERL = Path(__file__).parents[2] / "examples" / "derl"
FOLDERS = ("data", "model", "evaluate", "train", "predict", "report", "study", "demo")  # in the order data flows
MODULES = sorted(path for path in DERL.rglob("*.py") if path.parent != DERL)


def imported(path):
    """The modules of `derl` that a file imports, wherever in the file: `data.split`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: a relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("derl."):
            parts = node.module.split(".")[1:]
            found |= {".".join([*parts, alias.name][:2]) for alias in node.names}
    return found


def test_every_folder_of_the_example_is_in_the_order():
    assert {path.parent.name for path in MODULES} == set(FOLDERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(DERL)))
def test_imports_go_against_the_flow_of_data_only(path):
    later = FOLDERS[FOLDERS.index(path.parent.name) + 1 :]
    assert not [name for name in imported(path) if name.split(".")[0] in later]


def test_predicting_needs_nothing_of_training():
    names = {name for path in MODULES if path.parent.name == "predict" for name in imported(path)}
    assert not [name for name in names if name.startswith("train.")]


def test_the_modules_import_each_other_in_no_circle():
    graph = {f"{path.parent.name}.{path.stem}": imported(path) for path in MODULES}
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
