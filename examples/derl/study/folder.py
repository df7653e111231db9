"""A study's folder: the options that all its cells share."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from filelock import FileLock

from derl.data import load_data
from derl.options import Options, fill_in
from derl.run import DATA, RunError
from derl.study.ledger import CELLS, Ledger

OPTIONS = "study.json"


def open_study(folder: Path, options: Options | None) -> tuple[Ledger, Options]:
    """Make a study, or open the one in ``folder``.

    Args:
        folder: of the study.
        options: what its cells share; None: those that the folder remembers.

    Raises:
        RunError: the folder cannot be written, holds no study, or one of other options.
    """
    path = folder / OPTIONS
    if options is None and not path.exists():
        raise RunError(f"{folder}: expected the folder of a study, with {OPTIONS}, found none; check --study.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".study.lock"):
            if path.exists():
                found = Options(**json.loads(path.read_text()))
                _check(folder, found, options)
                options = found
            else:
                assert options is not None
                if any(entry.name != ".study.lock" for entry in folder.iterdir()):
                    raise RunError(f"{folder}: expected a new or empty folder or a study; choose another --study.")
                path.write_text(json.dumps(asdict(fill_in(options)), indent=2))
            ledger = Ledger(folder)
            if options.data is not None and Path(options.data).exists():
                load_data(options.data, folder / CELLS / DATA)  # converted once, not by every process
    except OSError as error:
        raise RunError(f"{folder}: expected a folder that can be written, found {error.strerror}.") from error
    return ledger, options


def _check(folder: Path, found: Options, asked: Options | None) -> None:
    differing = [] if asked is None else _differing(found, fill_in(asked))
    if differing:
        name = differing[0]
        raise RunError(
            f"{folder}: expected the options this study was started with, --{name} {getattr(found, name)}, "
            f"found --{name} {getattr(asked, name)}; leave it out, or choose another --study."
        )


def _differing(one: Options, other: Options) -> Sequence[str]:
    return [field.name for field in fields(Options) if getattr(one, field.name) != getattr(other, field.name)]
