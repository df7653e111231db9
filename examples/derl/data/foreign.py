"""Stand-ins for what a pickle holds beside plain data and arrays: they ignore what the file gives them."""

import re
from typing import Any

from derl.data.frames import PAGE


class Foreign:
    """A value that was not read.

    Attributes:
        what: its kind, in words.
        remedy: how to turn it into something that is read.
    """

    __slots__ = ()
    what = "an object of another library"
    remedy = "save plain lists and arrays"

    def __new__(cls, *args: Any, **kwargs: Any) -> "Foreign":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> "Foreign":
        return Foreign()

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


class _Collection(Foreign):
    __slots__ = ()
    what = "a container of the module collections, such as an OrderedDict"
    remedy = "convert it with dict() or list() in the program that wrote it"


class _Pandas(Foreign):
    __slots__ = ()
    what = "a pandas object"
    remedy = f"save its .to_numpy(), or give --data a table: DataFrame.to_csv ({PAGE})"


class _Torch(Foreign):
    __slots__ = ()
    what = "a torch tensor"
    remedy = "save its .numpy()"


class _Numpy(Foreign):
    __slots__ = ()
    what = "a masked array, matrix or other subclass of numpy.ndarray"
    remedy = "save numpy.asarray of it"


class _Time(Foreign):
    __slots__ = ()
    what = "a date or time"
    remedy = "save it as text or as a number"


_MOST_NAMED = 100  # a class takes a kilobyte
_LONGEST = 100  # characters of a global's name that a message shows
_KINDS: tuple[tuple[str, type[Foreign]], ...] = (
    (r"collections\.(OrderedDict|defaultdict|deque|Counter)", _Collection),
    (r"pandas(\.\w+)*\.([A-Z]\w*|_new_Index|_unpickle_block|new_block|__pyx_unpickle_[A-Z]\w*)", _Pandas),
    (r"pyarrow\.(lib\.(_restore_array|py_buffer|type_for_alias)|NA)", _Pandas),  # how pandas keeps strings
    (r"torch\.(_utils\._rebuild_(tensor_v2|parameter)|storage\._load_from_bytes|Tensor|[A-Z][a-z0-9]+Storage)", _Torch),
    (r"numpy\.(matrix|memmap|recarray|record|ma(\.core)?\.(_mareconstruct|MaskedArray))", _Numpy),
    (r"numpy(\.matrixlib\.defmatrix\.matrix|\.rec\.recarray|\.core\.records\.recarray|\.memmap)", _Numpy),
    (r"datetime\.(date|datetime|time|timedelta|timezone)", _Time),
)


class Foreigners(dict[tuple[str, str], type[Foreign]]):
    """The stand-ins for the globals of one pickle, which are made by need; nothing is looked up or imported."""

    def __missing__(self, key: tuple[str, str]) -> type[Foreign]:
        full = ".".join(key)[:_LONGEST]
        known = next((stand_in for pattern, stand_in in _KINDS if re.fullmatch(pattern, full)), None)
        if known is not None:
            return known
        if len(self) >= _MOST_NAMED or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", full, re.ASCII):
            return Foreign
        self[key] = type("_Named", (Foreign,), {"__slots__": (), "what": f"an object that {full} makes"})
        return self[key]
