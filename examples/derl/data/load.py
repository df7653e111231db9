"""The splits of a file: an MMSA pickle through a cache, ``.safetensors``, or shards."""

from collections.abc import Mapping
from pathlib import Path

from derl.data.files import checksum
from derl.data.mmsa import describe_left_out, describe_repairs, read_mmsa
from derl.data.shards import INDEX, ShardedSplit, open_shards
from derl.data.split import SPLITS, DataError, Split, load_splits, read_source, save_splits


def load_data(
    path: str | Path, cache: str | Path, *, text_features: bool = False
) -> Mapping[str, Split | ShardedSplit]:
    """Read the splits of an MMSA pickle, through a safetensors cache, or of a ``.safetensors`` file or shards directly.

    The first time, the pickle is converted to ``cache`` together with its SHA-256, and a line is printed. While that is
    the pickle's, only the cache is read. What was left out or repaired is printed every time.

    Args:
        path: the data.
        cache: where the converted pickle is kept.
        text_features: as for :func:`derl.data.mmsa.read_mmsa`.

    Raises:
        DataError: the pickle or the cache cannot be read or written, or ``text_features`` is asked of another file.
    """
    path, cache = Path(path), Path(cache)
    if text_features and (path.is_dir() or path.suffix == ".safetensors"):
        raise DataError(f"{path}: expected a pickle for --text_features, found one that was converted; leave it out.")
    if path.is_dir():
        return open_shards(path)
    if path.suffix == ".safetensors":
        splits = load_complete(path)
    else:
        source = data_checksum(path) + (" text_features" if text_features else "")
        if not cache.exists() or read_source(cache) != source:
            print(f"converting {path} to {cache}")
            save_splits(read_mmsa(path, text_features=text_features), cache, source=source)
        splits = load_splits(cache)
    for line in [*describe_left_out(splits), *describe_repairs(splits)]:
        print(line)
    return splits


def load_complete(path: str | Path) -> dict[str, Split]:
    """Read train, valid and test from a `.safetensors` file.

    Raises:
        DataError: as of `load_splits`, or one of them is not there.
    """
    splits = load_splits(path)
    if not splits.keys() >= set(SPLITS):
        raise DataError(f"{path}: expected the splits {SPLITS}, found {tuple(splits)}; save all of them in one file.")
    return splits


def data_checksum(path: Path) -> str:
    """The checksum of a data file; of shards, that of their index, which holds the checksums of all.

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
