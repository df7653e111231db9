"""Files that are written whole or not at all, whatever happens in between."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write to; the file behind it replaces ``path`` at the end, unless writing failed.

    Raises:
        OSError: it cannot be written; its name is in the error.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
        >>> with whole(path) as draft:
        ...     written = draft.write_text("id,score")
        >>> path.read_text()
        'id,score'
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        os.chmod(draft, 0o666 & ~_umask())  # safetensors writes for its owner alone
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # where there is no place to write to, there is nothing to remove
            draft.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by ``content``; errors are those of :func:`whole`."""
    with whole(path) as draft:
        draft.write_bytes(content)


def checksum(path: Path) -> str:
    """A file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_draft(path: Path) -> bool:
    """Whether a killed process left this file in the middle of writing."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
