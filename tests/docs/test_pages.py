"""What the Markdown pages say can be run: blocks of Python print what stands below them, commands exist."""

import argparse
import itertools
import os
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from derl import MODELS, DerlConfig

TOP = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(TOP).as_posix() for path in (TOP / "README.md", *(TOP / "docs").rglob("*.md")))
ELSEWHERE = {  # page -> the test that runs its blocks, which need a trained model or are an excerpt
    "docs/your-data.md": "tests/derl/test_your_data_page.py",
    "docs/predict.md": "tests/derl/predict/test_predict_page.py",
    "docs/deploy.md": "tests/derl/test_export.py",
    "docs/digits.md": "tests/digits/test_digits_views.py",
}
TOLERANCE = 0.05  # of a decimal that a training leads to: processors round differently
FENCE = re.compile(r"^```(?:\{code-cell\} )?(\w+)?\n(?::tags: \[[\w-]+\]\n\n)?(.*?)^```$", re.DOTALL | re.MULTILINE)
DECIMAL = re.compile(r"-?\d+\.\d+")


def blocks(page):
    """The language and the text of every fenced block."""
    found = FENCE.findall((TOP / page).read_text())
    return [("python" if language == "python3" else language, text) for language, text in found]


def with_blocks(language):
    return [page for page in PAGES if any(kind == language for kind, _ in blocks(page))]


def scripts(page):
    """The Python blocks of a page that are a file, by its name: their first line is a comment that says it."""
    named = ((re.match(r"# (\w+\.py)\n", code), code) for language, code in blocks(page) if language == "python")
    return {match[1]: code for match, code in named if match}


def commands(page):
    """Every command of a page's sh blocks, split into words; comments and placeholders are as they are."""
    lines = "".join(text for language, text in blocks(page) if language == "sh").splitlines()
    parts = [part for line in lines for part in re.split(r"\s&&\s", line)]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


@pytest.fixture(autouse=True)
def afterwards():
    """A model that a page registers is gone after it, and a default dtype that it sets."""
    dtype = torch.get_default_dtype()
    with patch.dict(MODELS):
        yield
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize("page", [page for page in with_blocks("python") if page not in ELSEWHERE])
def test_every_block_prints_what_stands_below_it(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for what a block writes
    namespace, found = {}, blocks(page)
    for (language, code), (next_language, text) in zip(found, [*found[1:], ("", "")], strict=True):
        if language != "python":
            continue
        exec(compile(code, page, "exec"), namespace)
        printed = capsys.readouterr().out
        if next_language == "text":
            assert_same(printed, text)
        else:  # nothing, or what the block's own comments say
            assert all(f"# {line}\n" in code for line in printed.splitlines()), printed


def assert_same(printed, written):
    assert DECIMAL.sub("#", printed) == DECIMAL.sub("#", written)
    numbers = [[float(number) for number in DECIMAL.findall(text)] for text in (printed, written)]
    torch.testing.assert_close(*(torch.tensor(each) for each in numbers), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("page", [page for page in ELSEWHERE if (TOP / page).exists()])
def test_a_page_that_is_run_elsewhere_compiles(page):
    assert (TOP / ELSEWHERE[page]).exists()
    for language, code in blocks(page):
        if language == "python":
            compile(code, page, "exec")


@pytest.mark.parametrize("page", with_blocks("sh"))
def test_every_command_is_understood(page, tmp_path):
    found = commands(page)
    assert found
    shown = scripts(page)
    for name, code in shown.items():
        (tmp_path / name).write_text(code)
    for words in found:
        if words[-1] in shown:  # without options: the test that runs the page runs it
            continue
        understand([str(tmp_path / word) if word in shown else word for word in words])


def understand(words):
    """Fail unless a command's program is known and its own parser takes its options."""
    program, *arguments = itertools.dropwhile(lambda word: re.fullmatch(r"[A-Z_]+=\S+", word), words)
    name = Path(program).name
    if name == "python3":
        assert arguments == ["-m", "venv", ".venv"]
    elif name == "python" and arguments[:1] == ["-m"]:
        assert (TOP / Path(*arguments[1].split(".")) / "__main__.py").exists(), words
    elif name == "python":
        parse(arguments[0], arguments[1:])
    elif name == "pip":
        assert extras(words) <= optional_dependencies(), words
    elif name in ("torchrun", "accelerate"):
        index = next(i for i, word in enumerate(arguments) if word.endswith(".py"))
        launch(name, arguments[:index])
        parse(arguments[index], arguments[index + 1 :])
    elif name == "nox":
        assert arguments[0] == "-s"
        assert all(f"def {session}(" in (TOP / "noxfile.py").read_text() for session in arguments[1:]), words
    elif name == "pytest":
        options = {"-m", "gpu"}
        assert all(word in options or (TOP / word).exists() for word in arguments), words
    else:
        script = TOP / program
        assert os.access(script, os.X_OK), f"{words}: no program of this name that can be run"


def launch(name, arguments):
    """The launcher's own parser takes its options, and a configuration that is named exists."""
    if name == "torchrun":
        get_args_parser().parse_args([*arguments, "script.py"])
        return
    assert arguments[0] == "launch"
    options = launch_command_parser().parse_args([*arguments[1:], "script.py"])
    assert (TOP / options.config_file).exists(), arguments


def extras(words):
    return {extra for word in words for group in re.findall(r"\[([\w,]+)\]$", word) for extra in group.split(",")}


def optional_dependencies():
    return set(tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"])


class Understood(Exception):
    """The parser took the arguments."""


def parse(script, arguments):
    """Start a script, and stop it when its own parser has read the arguments; a wrong one exits with 2."""
    own = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser, args=None, namespace=None):
        if namespace is not None:  # a command's own options, within the whole
            return own(parser, args, namespace)
        rest = own(parser, args, namespace)[1]
        assert not rest, f"{script} does not know {rest}"
        raise Understood

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        patch.setattr(sys, "argv", [script, *arguments])
        # options are named after the modalities of the loaded model's config
        frames = ["audio", "vision", "voice", "face"]
        sizes = dict.fromkeys(frames, 4)
        config = DerlConfig(modalities=["text", *frames], input_dims=sizes, max_lengths={"text": 8} | sizes)
        patch.setattr("derl.predict.predictor.load", lambda folder: config)
        patch.setattr(sys, "path", [str((TOP / script).parent), *sys.path])
        try:
            runpy.run_path(str(TOP / script), run_name="__main__")
        except Understood:
            return
        except SystemExit as ended:
            if ended.code == 0:  # --help
                return
            pytest.fail(f"{script} {shlex.join(arguments)} ends with {ended.code}")
    pytest.fail(f"{script} reads no options")
