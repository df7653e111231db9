"""A study's folder: the options that all its cells share."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from derl.data import load_data
from derl.options import Options
from derl.run import DATA, RunError
from derl.study.ledger import Ledger

OPTIONS = "study.json"
LOCK = ".study.lock"
OWN = {LOCK, DATA}  # what an opening that failed may have left


def open_study(folder: Path, options: Options, given: Sequence[str]) -> tuple[Ledger, Options]:
    """Make a study, or open the one in ``folder``, which remembers its options.

    Args:
        folder: of the study.
        options: what the cells of a new study share.
        given: which of them were asked for; an existing study must have been started with these.

    Raises:
        RunError: the folder cannot be written, holds something else, or a study of other options.
    """
    path = folder / OPTIONS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            if path.exists():
                found = Options(**json.loads(path.read_text()))
                _check(folder, found, options, given)
                options = found
            else:
                if not {entry.name for entry in folder.iterdir()} <= OWN:
                    raise RunError(f"{folder}: expected a new or empty folder or a study; choose another --study.")
                if options.data is not None:
                    load_data(options.data, folder / DATA)  # converted once, not by every process
                path.write_text(json.dumps(asdict(options), indent=2))
            ledger = Ledger(folder)
    except OSError as error:
        raise RunError(f"{folder}: expected a folder that can be written, found {error.strerror}.") from error
    return ledger, options


def _check(folder: Path, found: Options, asked: Options, given: Sequence[str]) -> None:
    for name in given:
        if getattr(found, name) != getattr(asked, name):
            raise RunError(
                f"{folder}: expected the options that this study was started with, --{name} {getattr(found, name)}, "
                f"got --{name} {getattr(asked, name)}; leave it out, or choose another --study."
            )
