"""Measure the share of the library that checks arguments: ``python benchmarks/check_lines.py [REVISION_OR_FOLDER]``.

Only lines of code count, without blank lines, comments and docstrings. ``modx/ops/triton`` is left out, because its
arguments are checked by its callers. Lines that check arguments are

- every line of the module ``_checks.py``, and of functions and methods named ``check_*`` or ``_check_*`` elsewhere;
- whole statements that raise, with the ``if`` if its body does nothing else;
- whole statements that import, call or pass on such a function; for a loop or definition, the header or decorator.

At 14b216a, before checks used letters and types, the share was 28% (559 of 1,984 lines).
"""

import argparse
import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = "modx/ops/triton/"
LAYOUT = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
)


def read(where: str) -> dict[str, str]:
    """Return the library's files and their text, from a folder or a revision of this repository."""
    if (Path(where) / "modx").is_dir():
        paths = sorted((Path(where) / "modx").rglob("*.py"))
        texts = {path.relative_to(where).as_posix(): path.read_text() for path in paths}
    else:
        names = _git("ls-tree", "-r", "--name-only", where, "modx/").splitlines()
        texts = {name: _git("show", f"{where}:{name}") for name in names if name.endswith(".py")}
    return {name: text for name, text in texts.items() if not name.startswith(LEFT_OUT)}


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines with code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= _span(node)
    return lines


def check_lines(name: str, text: str) -> set[int]:
    """Return the numbers of the lines of code that check arguments."""
    lines = code_lines(text)
    if Path(name).name == "_checks.py":
        return lines
    found: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            found |= _checked(node)
    return lines & found


def share(where: str) -> tuple[float, dict[str, tuple[int, int]]]:
    """Return the share of lines that check, and per file the number of such lines and of all lines."""
    counts = {name: (len(check_lines(name, text)), len(code_lines(text))) for name, text in read(where).items()}
    checking, all_lines = map(sum, zip(*counts.values(), strict=True))
    return checking / all_lines, counts


def _checked(node: ast.stmt) -> set[int]:
    """Return the lines of a statement that check arguments; statements in its body are examined separately."""
    if isinstance(node, ast.FunctionDef):
        if _is_check(node.name):
            return _span(node)
        return set().union(*(_span(decorator) for decorator in node.decorator_list if _names_check(decorator)))
    if isinstance(node, ast.If) and not node.orelse and all(isinstance(inner, ast.Raise) for inner in node.body):
        return _span(node)
    if not hasattr(node, "body"):
        return _span(node) if isinstance(node, ast.Raise) or _names_check(node) else set()
    header = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
    return set().union(*(_span(child) for child in header if hasattr(child, "lineno") and _names_check(child)))


def _names_check(node: ast.AST) -> bool:
    return any(
        _is_check(getattr(inner, "id", None) or getattr(inner, "attr", None) or getattr(inner, "name", None) or "")
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name | ast.Attribute | ast.alias)
    )


def _is_check(name: str) -> bool:
    return re.match(r"_?check(_|$)", name) is not None


def _span(node: ast.AST) -> set[int]:
    return set(range(node.lineno, node.end_lineno + 1))  # type: ignore[attr-defined]


def _git(*arguments: str) -> str:
    command = ("git", "-C", str(ROOT), *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", nargs="?", default=str(ROOT), help="a revision, or a folder that holds modx/")
    total, counts = share(parser.parse_args().where)
    for name, (checking, lines) in counts.items():
        if checking:
            print(f"{name:34} {checking:4} of {lines:4}  {checking / lines:4.0%}")
    checking, lines = map(sum, zip(*counts.values(), strict=True))
    print(f"{'all':34} {checking:4} of {lines:4}  {total:.1%}")


if __name__ == "__main__":
    main()
