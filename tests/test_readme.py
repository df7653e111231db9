"""The README's two set-up commands; its block of Python is run by tests/docs/test_pages.py."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_two_commands_are_one_line_each():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    assert [command.rsplit("&& ", 1)[1] for command in commands] == [
        ".venv/bin/python examples/derl_mosi.py",
        ".venv/bin/pytest",
    ]
