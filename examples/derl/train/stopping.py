"""Stop a run on Ctrl-C or on the SIGTERM of a scheduler, in the same way."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise KeyboardInterrupt on either signal; restore the previous handlers on exit."""
    before = [signal.getsignal(number) for number in SIGNALS]
    at_stop(interrupt)
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def at_stop(handler: Callable[[int, FrameType | None], None]) -> None:
    """Call ``handler`` on either signal."""
    for number in SIGNALS:
        signal.signal(number, handler)


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt(signal.Signals(signum).name)
