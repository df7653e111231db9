"""The page that goes through the paper names code and tests that exist, and every equation that the code cites."""

import ast
import inspect
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from markdown_it import MarkdownIt

from derl.data.printed import printed_rows

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "paper.md"
EQUATIONS = range(1, 19)
NUMBERS = re.compile(r"\b[Ee]qs?\.\s+(\d+(?:(?:-|, (?:and )?| and | to )\d+)*)")


def equations(text: str) -> set[int]:
    """The numbers that a text cites, ranges filled in."""
    text = re.sub(r"\s+(?:#\s*)?", " ", text)  # a citation may be broken by a line, in a comment too
    found = set()
    for listed in NUMBERS.findall(text):
        numbers = [int(number) for number in re.findall(r"\d+", listed)]
        found.update(numbers)
        for between, (first, last) in zip(re.findall(r"\d+(\D+)(?=\d)", listed), pairwise(numbers), strict=True):
            if between.strip() in ("-", "to"):
                found.update(range(first, last))
    return found


def table_rows() -> list[list[str]]:
    """The cells of every row on the paper, as they are written; headings and measured tables are left out."""
    rows: list[list[str]] = []
    text = PAGE.read_text().partition("\n## What the open choices do\n")[0]
    for before, token in pairwise(MarkdownIt().enable("table").parse(text)):
        if token.type == "tr_open":
            rows.append([])
        elif before.type == "td_open":
            rows[-1].append(token.content)
    return [row for row in rows if row]


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def resolve(name: str) -> object:
    """What a dotted name leads to, by imports and then attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def is_place(span: str) -> bool:
    return re.match(r"(modx|derl)\.\w", span) is not None


def is_path(span: str) -> bool:
    return re.fullmatch(r"[\w./-]+/[\w.-]+\.\w+", span) is not None


def place_file(span: str) -> str:
    """The file that holds a code place; of an attribute, that of its owner."""
    if is_path(span):
        return span
    while not isinstance(found := resolve(span), (type, FunctionType, ModuleType)):
        span = span.rpartition(".")[0]
    return str(Path(inspect.getsourcefile(found) or "").relative_to(TOP))


def cited() -> list[tuple[str, int]]:
    files = [path for folder in ("modx", "examples") for path in sorted((TOP / folder).rglob("*.py"))]
    return [(str(path.relative_to(TOP)), n) for path in files for n in sorted(equations(path.read_text()))]


def documented() -> list[tuple[str, int]]:
    """The name of every class and function whose docstring cites an equation, with its number."""
    found = []
    for folder in (TOP / "modx", TOP / "examples"):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(TOP if folder.name == "modx" else folder).with_suffix("").parts
            queue = [(ast.parse(path.read_text()), ".".join(parts).removesuffix(".__init__"))]
            for node, name in queue:  # grows
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    found += [(name, number) for number in sorted(equations(ast.get_docstring(node) or ""))]
                queue += [
                    (child, f"{name}.{child.name}" if isinstance(child, ast.ClassDef | ast.FunctionDef) else name)
                    for child in ast.iter_child_nodes(node)
                ]
    return found


def own_name(span: str) -> str:
    """The name of a code place where it is defined; of a file, that of its module."""
    if is_path(span):
        return span.removeprefix("examples/").removesuffix(".py").replace("/", ".")
    found = resolve(span)
    return f"{found.__module__}.{found.__qualname__}" if isinstance(found, type | FunctionType) else span


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(eq. 3-5)", {3, 4, 5}),
        ("(eq. 7, 9, 11, 12).", {7, 9, 11, 12}),
        ("eq. 3, 14", {3, 14}),
        ("eq. 3 and 14 of\n    DERL", {3, 14}),
        ("eq. 6, 8 and 10", {6, 8, 10}),
        ("of eq. 5 and eq. 12 in eq. 18", {5, 12, 18}),
        ("eq. 1, 3-5 and\n    # 16-18", {1, 3, 4, 5, 16, 17, 18}),
        ("(eq. 10; D_in = 2 D)", {10}),
        ("eq.\n    # 4, in words", {4}),
        ("eq. 7, targets", {7}),
        ("Eq. 4", {4}),
        ("seq. 7", set()),
    ],
)
def test_citations_are_read(text, numbers):
    assert equations(text) == numbers


@pytest.mark.parametrize("number", EQUATIONS)
def test_every_equation_has_a_row(number):
    assert [row[0] for row in table_rows()].count(f"eq. {number}") == 1


@pytest.mark.parametrize(("name", "number"), documented())
def test_a_docstring_that_cites_an_equation_is_named_in_its_row(name, number):
    of_equation = [" ".join(row) for row in table_rows() if number in equations(row[0])]
    places = [own_name(span) for row in of_equation for span in spans(row) if is_place(span) or is_path(span)]
    assert any(name == place or name.startswith(f"{place}.") or place.startswith(f"{name}.") for place in places), (
        f"{name} cites eq. {number}, whose row names {places}"
    )


@pytest.mark.parametrize(("file", "number"), cited())
def test_what_cites_an_equation_is_named_in_its_row(file, number):
    of_equation = [" ".join(row) for row in table_rows() if number in equations(row[0])]
    places = [span for row in of_equation for span in spans(row) if is_place(span) or is_path(span)]
    assert file in map(place_file, places), f"{file} cites eq. {number}, whose row names {places}"


@pytest.mark.parametrize("place", sorted({span for span in spans(PAGE.read_text()) if is_place(span)}))
def test_every_name_in_code_font_exists(place):
    resolve(place)


@pytest.mark.parametrize("path", sorted({span for span in spans(PAGE.read_text()) if is_path(span)}))
def test_every_path_exists(path):
    assert (TOP / path).exists()


@pytest.mark.parametrize("test", sorted({span for span in spans(PAGE.read_text()) if "::" in span}))
def test_every_test_exists(test):
    file, _, name = test.partition("::")
    functions = [node.name for node in ast.parse((TOP / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name.startswith("test_")
    assert name in functions


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in table_rows()])
def test_every_row_says_what_holds_it_or_that_nothing_does(row):
    assert len(row) == 4
    assert "::" in row[3] or "no test" in row[3] or row[3] == "nothing to test"


def row_of(start: str) -> str:
    (text,) = [" ".join(row) for row in table_rows() if row[0].startswith(start)]
    return text


def test_the_page_states_the_differences_that_follow_from_the_printed_rows():
    def average(method: str, data: str, cases: int) -> float:
        numbers = list(printed_rows("Table 2", data)[method].values())
        return sum(numbers[:cases]) / cases

    def printed(method: str, data: str) -> float:
        return printed_rows("Table 2", data)[method]["average"]

    for data in ("MOSI", "MOSEI"):
        assert f"{average('DERL', data, 6):.2f} on {data}" in row_of("Table 2, ")
    over_dmd = printed("DERL", "MOSI") - printed("DMD", "MOSI")
    text = row_of('4.4, "21.6')
    assert f"differ by {over_dmd:.2f} points, which is {100 * over_dmd / printed('DMD', 'MOSI'):.1f} %" in text
    assert f"the difference is {average('DERL', 'MOSI', 6) - average('DMD', 'MOSI', 6):.2f} points" in text
    over_corrkd = printed("DERL", "MOSEI") - printed("CorrKD", "MOSEI")
    text = row_of('4.4, "0.82')
    assert f"{over_corrkd:.2f} points, {100 * over_corrkd / printed('CorrKD', 'MOSEI'):.2f} % relative" in text
    assert f"CorrKD leads by {average('CorrKD', 'MOSEI', 6) - average('DERL', 'MOSEI', 6):.2f} points" in text
    for data in ("MOSI", "MOSEI"):
        ours, lnln = (printed_rows("Table 1", data)[method]["acc2_non0"] for method in ("DERL", "LNLN"))
        assert f"{ours - lnln:.2f}" in row_of("Abstract")
