"""What the package says of itself in several places is the same, and the lowest versions are those of pyproject."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

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
    cited = [citation["preferred-citation"], *citation["references"]]
    assert all({"authors", "title", "type", "year"} <= reference.keys() for reference in cited)
    assert citation["preferred-citation"]["version"] == citation["version"]


def test_a_release_has_no_relative_link_and_the_address_of_the_repository():
    address = runpy.run_path(str(ROOT / ".ci" / "address"))
    where = ("https://example.org/owner/modx", "v9.9.9")
    readme = address["absolute"]((ROOT / "README.md").read_text(), *where)
    tokens = [token for part in MarkdownIt().enable("table").parse(readme) for token in part.children or ()]
    targets = [target for token in tokens if (target := token.attrGet("href") or token.attrGet("src"))]
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "https://example.org/owner/modx/raw/v9.9.9/docs/images/blocks/model.svg" in targets
    assert "https://example.org/owner/modx/blob/v9.9.9/CONTRIBUTING.md" in targets
    urls = tomllib.loads(address["with_urls"]((ROOT / "pyproject.toml").read_text(), *where))["project"]["urls"]
    assert urls["Repository"] == where[0]
    assert urls["Paper"].startswith("https://arxiv.org/")


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
