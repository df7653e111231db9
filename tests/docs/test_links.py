"""Every link within the repository leads somewhere, from every Markdown file, as it is read in a checkout."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

TOP = Path(__file__).parents[2]
SKIPPED = {".venv", ".git", "runs", "study", "_build", "dist"}
FILES = sorted(
    path.relative_to(TOP).as_posix()
    for path in TOP.rglob("*.md")
    if not SKIPPED & set(path.relative_to(TOP).parts) and not any(part.startswith(".") for part in path.parts[:-1])
)


def tokens(path):
    for token in MarkdownIt().enable("table").parse(path.read_text()):
        yield from (token, *(token.children or ()))


def targets(path):
    """What links and pictures point to, but for addresses on the internet."""
    found = (token.attrGet("href") or token.attrGet("src") for token in tokens(path))
    return [target for target in found if target and not re.match(r"[a-z]+:", target)]


def anchors(path):
    """The names that headings get where the repository is hosted, and on the site."""
    parsed = list(tokens(path))
    titles = [
        "".join(part.content for part in after.children)
        for before, after in pairwise(parsed)
        if before.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("file", FILES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(file):
    path = TOP / file
    for target in targets(path):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{file}: {target}"
        assert there.is_relative_to(TOP), f"{file}: {target}"
        assert not anchor or anchor in anchors(there), f"{file}: {target}"


READ_BY_A_TEST = {"benchmarks/results/kernel_configurations.csv"}  # tests/ops/test_kernel_resources.py
RESULTS = sorted(
    path.relative_to(TOP).as_posix()
    for folder, kinds in {
        "docs/images": ("svg", "png"),
        "docs/results": ("csv", "json", "md"),
        "benchmarks/results": ("csv", "md"),
    }.items()
    for kind in kinds
    for path in (TOP / folder).rglob(f"*.{kind}")
)


@pytest.fixture(scope="module")
def linked():
    return {
        (TOP / file).parent.joinpath(target.partition("#")[0]).resolve()
        for file in FILES
        for target in targets(TOP / file)
    }


@pytest.mark.parametrize("file", [file for file in RESULTS if file not in READ_BY_A_TEST])
def test_every_recorded_result_and_picture_is_shown_by_a_page(file, linked):
    assert TOP / file in linked
