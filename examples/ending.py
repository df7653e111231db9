"""End a command on Ctrl-C with one line, exit code 130 and no traceback. Import it before slow modules."""

import sys
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import ParamSpec

Arguments = ParamSpec("Arguments")
CODE = 130  # 128 + SIGINT, as shells count


class Stopped(KeyboardInterrupt):
    """A stop with its own line to print, e.g. how to resume; an empty line prints nothing."""


def command(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Make ``main`` return 130 when Ctrl-C stops it.

    Example:
        >>> @command
        ... def main() -> int:
        ...     raise Stopped("stopped; what was written is kept")
        >>> main()
        130
    """

    @wraps(main)
    def ended(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt as stop:
            return _say(stop)

    return ended


def _say(stop: BaseException) -> int:
    line = str(stop) if isinstance(stop, Stopped) else "stopped"
    if line:
        print(f"\n{line}", file=sys.stderr)
    return CODE


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):  # during imports, which take seconds
        sys.exit(_say(error))
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = _hook
