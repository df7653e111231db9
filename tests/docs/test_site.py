"""The pages hold every public name and the pictures that their code draws."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from docs.pictures import blocks, patterns

TOP = Path(__file__).parents[2]
REFERENCE = "".join(path.read_text() for path in (TOP / "docs" / "api").glob("*.md"))


def public(name):
    """The public names of a module: __all__, or what it defines itself."""
    module = import_module(name)
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == name and key[0] != "_"]
    return [f"{name}.{key}" for key in getattr(module, "__all__", own)]


@pytest.mark.parametrize("module", ["modx", "modx.losses", "modx.missing", "modx.metrics", "modx.ops"])
def test_every_public_name_is_in_the_reference(module):
    documented = set(re.findall(r"^\.\. auto\w+:: (\S+)$", REFERENCE, re.MULTILINE))
    pages = {f"modx.{path.stem}" for path in (TOP / "docs" / "api").glob("*.md")}
    assert set(public(module)) - documented - pages == set()


@pytest.mark.parametrize(("folder", "draw"), [("blocks", blocks.draw), ("missing", patterns.draw)])
def test_pictures_are_what_their_code_draws(folder, draw, tmp_path):
    for name, canvas in draw().items():
        canvas.save(tmp_path / "drawn.svg")
        drawn = (tmp_path / "drawn.svg").read_text()
        assert drawn == (TOP / "docs" / "images" / folder / f"{name}.svg").read_text(), name
