"""The README's block runs and prints what the README says."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_block_prints_what_stands_below_it(capsys):
    code, printed = re.search(r"```python\n(.*?)```\n.*?```text\n(.*?)```", README, re.DOTALL).groups()
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_the_two_commands_are_one_line_each():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert len(commands) == 2
    assert [command.rsplit("&& ", 1)[1] for command in commands] == [
        ".venv/bin/python examples/derl_mosi.py",
        ".venv/bin/pytest",
    ]
