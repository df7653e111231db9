"""Read a pickle of plain data and NumPy arrays without running any code in it.

A pickle is a program. This reader never looks up a global. The few that NumPy arrays and plain containers need are
replaced with stand-ins that check the file's arguments before NumPy sees them, those that are known to run code are
refused, and any other is replaced with :class:`Foreign`, which ignores its arguments.
"""

import mmap
import pickle
from pathlib import Path
from typing import Any

from derl.data.foreign import Foreigners
from derl.data.formats import copied_as_text, recognize
from derl.data.opcodes import inspect
from derl.data.pickled import ESCAPE, GLOBALS, copying, refuse
from derl.data.running import runs_code
from derl.data.split import DataError


def load_pickle(path: Path) -> Any:
    """Read a pickle of protocol 0 to 5, of Python 2 or 3; arrays are returned as :class:`Array`.

    Raises:
        DataError: The file cannot be read, is not a complete pickle, names a global that runs code, or exceeds
            a limit of :func:`derl.data.opcodes.inspect` or :func:`derl.data.pickled.copying`. Damage can also raise
            other exceptions, which the caller must turn into a DataError.
    """
    try:
        if not path.stat().st_size:
            refuse("a pickle", "an empty file", "get the file again")
        other = recognize(path)
        if other is not None:
            refuse("a pickle", *other)
        try:
            return _load(path)
        except OSError:
            raise
        except Exception as error:
            if not copied_as_text(path):
                raise
            found = "one in which every line ends in CR LF, as after a copy as text"
            remedy = "copy it again as binary (in git: '*.pkl binary' in .gitattributes)"
            raise DataError(f"expected an intact pickle, found {found}; {remedy}.") from error
    except OSError as error:
        refuse("a file that can be read", str(error.strerror or error), "check the path")


def _load(path: Path) -> Any:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        inspect(stream)
        stream.seek(0)
        with copying(len(stream)):
            return _Unpickler(stream).load()


class _Unpickler(pickle.Unpickler):
    """Unpickles plain data; NumPy arrays are returned as ``Array``."""

    def __init__(self, stream: mmap.mmap) -> None:
        # text of Python 2 is bytes in any encoding, arrays included; utf-8 with escapes keeps them all
        super().__init__(stream, encoding="utf-8", errors=ESCAPE)
        self._foreign = Foreigners()

    def find_class(self, module: str, name: str) -> Any:
        if runs_code(module, name):
            found = f"{module}.{name}"[:200]
            found = found if found.isprintable() else ascii(found)
            refuse("a pickle of plain data and numpy arrays", f"global {found}", "do not trust this file")
        return GLOBALS.get((module, name)) or self._foreign[module, name]
