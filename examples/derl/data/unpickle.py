"""Read a pickle of plain data and NumPy arrays without running any code in it.

A pickle is a program. This reader refuses every global except the few that NumPy arrays and plain containers need, and
a few kinds of data that it cannot read. It replaces the first with stand-ins that check the file's arguments before
NumPy sees them, and the second with :class:`Foreign`, which ignores them.
"""

import mmap
import pickle
from pathlib import Path
from typing import Any

from derl.data.foreign import foreign
from derl.data.formats import copied_as_text, recognize
from derl.data.opcodes import inspect
from derl.data.pickled import ESCAPE, GLOBALS, refuse
from derl.data.split import DataError


def load_pickle(path: Path) -> Any:
    """Read a pickle of protocol 0 to 5, of Python 2 or 3; arrays are returned as :class:`Array`.

    Raises:
        DataError: The file cannot be read, is not a complete pickle, or names anything but data. Damage can also raise
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
        # text of Python 2 is bytes in any encoding, arrays included; utf-8 with escapes keeps them all
        return _Unpickler(stream, encoding="utf-8", errors=ESCAPE).load()


class _Unpickler(pickle.Unpickler):
    """Unpickles plain data; NumPy arrays are returned as ``Array``."""

    def find_class(self, module: str, name: str) -> Any:
        known = GLOBALS.get((module, name)) or foreign(module, name)
        if known is None:
            found = f"{module}.{name}"[:200]
            refuse("a pickle of plain data and numpy arrays", f"global {found}", "do not trust this file")
        return known
