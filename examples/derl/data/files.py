"""Atomic file writes, and SHA-256 checksums."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; that file replaces ``path`` at the end, unless writing failed.

    Raises:
        OSError: The file cannot be written; the error names ``path``.

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
        os.chmod(draft, 0o666 & ~_umask())  # safetensors makes files that only their owner can read
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # an unwritable folder holds no draft
            draft.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file with ``content`` atomically; raises what :func:`whole` raises."""
    with whole(path) as draft:
        draft.write_bytes(content)


def checksum(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_draft(path: Path) -> bool:
    """Return whether this is a temporary file of :func:`whole`, which a killed process leaves behind."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
