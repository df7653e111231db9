"""What the package says of itself in several places is the same, and the lowest versions are those of pyproject."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import modx

ROOT = Path(__file__).parents[1]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text())


def lowest(*extras: str) -> list[str]:
    command = [sys.executable, str(ROOT / ".ci" / "lowest"), *extras]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_version_is_semantic():
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", modx.__version__)


def test_the_citation_is_of_this_version_under_this_license(citation):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == modx.__version__
    assert citation["license"] == project["license"]
    assert citation["title"].startswith(project["name"])


def test_the_citation_has_what_its_format_asks_for(citation):
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert all({"authors", "title", "type"} <= reference.keys() for reference in citation["references"])


def test_the_change_log_keeps_its_format():
    headings = re.findall(r"^(##+) (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [text for level, text in headings if level == "##"]
    assert all(re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\S*\] - \d{4}-\d\d-\d\d", text) for text in versions)
    assert versions[0] == "[Unreleased]" or versions[0].startswith(f"[{modx.__version__}]")
    assert {text for level, text in headings if level == "###"} <= KINDS


def test_the_lowest_versions_are_those_that_pyproject_names():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(pin.replace("==", ">=", 1) for pin in lowest()) == sorted(dependencies)


def test_an_extra_within_an_extra_counts():
    pins = lowest("examples")
    assert set(pins) > set(lowest("metrics")) > set(lowest())
    assert not any("modx" in pin for pin in pins)
