"""Load splits from a table or an MMSA pickle (both cached), a ``.safetensors`` file, or shards."""

from collections.abc import Callable, Mapping
from pathlib import Path

from derl.data.absence import describe_missing
from derl.data.console import say
from derl.data.files import checksum
from derl.data.mmsa import describe_left_out, describe_notes, read_mmsa
from derl.data.rows import find_table
from derl.data.shards import INDEX, ShardedSplit, open_shards
from derl.data.split import SPLITS, DataError, Split, load_splits, read_source, save_splits
from derl.data.table import Table

Loaded = Mapping[str, Split | ShardedSplit]


def load_data(
    path: str | Path,
    cache: str | Path | None,
    *,
    text_features: bool = False,
    table: Table | None = None,
    partly_missing: str = "impute",
) -> Loaded:
    """Load splits from a table, an MMSA pickle, a ``.safetensors`` file, or shards.

    The first call converts a table or a pickle to ``cache``, stores its checksum there, and prints a line. Later calls
    read only the cache, as long as the checksum matches, or the original or a file that it names is gone. Every call
    prints what was left out, and what is absent.

    Args:
        path: the table or its folder, the pickle, the ``.safetensors`` file, or the folder of shards.
        cache: file for the converted data. None: nothing is stored, and every call converts.
        text_features: passed to :func:`derl.data.mmsa.read_mmsa`.
        table: how to read a table.
        partly_missing: how the model will treat frames of which some values are missing, for the line about them.

    Raises:
        DataError: The data or the cache cannot be read or written, or ``text_features`` is set and the data is not a
            pickle.
    """
    path, cache = Path(path), None if cache is None else Path(cache)
    table = Table() if table is None else table
    if cache is not None and (gone := _gone(path, cache, table)):
        say(f"{gone} is not there any more; {cache} holds what was read from it")
        return _described(load_complete(cache), partly_missing)
    is_table = find_table(path) is not None
    if text_features and (is_table or path.is_dir() or path.suffix == ".safetensors"):
        raise DataError(f"{path}: expected a pickle for --text_features, found another kind of data; leave it out.")
    splits: Loaded
    if is_table:
        splits = _load_table(path, cache, table)
    elif path.is_dir() and not (path / INDEX).is_file():
        raise DataError(
            f"{path}: expected table.csv, Parquet, a Hugging Face data set or shards in the folder, found none; "
            "put one there, or check the path."
        )
    elif path.is_dir():
        splits = open_shards(path)
    elif path.suffix == ".safetensors":
        splits = load_complete(path)
    else:
        source = data_checksum(path) + (" text_features" if text_features else "")
        splits = _through_cache(path, cache, source, lambda: read_mmsa(path, text_features=text_features))
    return _described(splits, partly_missing)


def _described(splits: Loaded, partly_missing: str) -> Loaded:
    """Print what was left out, decided and absent."""
    for line in [*describe_left_out(splits), *describe_notes(splits), *describe_missing(splits, partly_missing)]:
        say(line)
    return splits


def _gone(path: Path, cache: Path, table: Table) -> Path | str | None:
    """Return what is not there any more of data that was converted to the cache; None if it can be read again."""
    try:
        source = read_source(cache)
    except DataError:
        source = ""
    if not source:
        return None
    if find_table(path) is not None and path.exists():
        return table.lost(path, source)
    if path.is_dir() and not (path / INDEX).is_file():
        return f"the table of {path}"
    return None if path.exists() else path


def _load_table(path: Path, cache: Path | None, table: Table) -> dict[str, Split]:
    splits = _through_cache(path, cache, table.checksum(path), lambda: table.read(path))
    for note in table.notes:  # none if the cache was read
        say(note)
    return splits


def _through_cache(
    path: Path, cache: Path | None, source: str, read: Callable[[], dict[str, Split]]
) -> dict[str, Split]:
    """Load what was converted from this source; convert it first if the cache holds something else, or nothing."""
    if cache is None:
        return read()
    if not cache.exists() or read_source(cache) != source:
        say(f"converting {path} to {cache}")
        save_splits(read(), cache, source=source)
    return load_splits(cache)


def load_complete(path: str | Path) -> dict[str, Split]:
    """Read train, valid and test from a ``.safetensors`` file.

    Raises:
        DataError: The file cannot be read, was not written by ``save_splits``, or lacks a split.
    """
    splits = load_splits(path)
    if not splits.keys() >= set(SPLITS):
        raise DataError(f"{path}: expected the splits {SPLITS}, found {tuple(splits)}; save all of them in one file.")
    return splits


def data_checksum(path: Path) -> str:
    """Return the checksum of a data file, or of the shards' index, which holds the checksums of all shards.

    Raises:
        DataError: The file cannot be read.
    """
    path = path / INDEX if path.is_dir() else path
    try:
        return checksum(path)
    except OSError as error:
        raise DataError(
            f"{path}: expected a pickle or a .safetensors file, found {error.strerror}; check the path."
        ) from error
