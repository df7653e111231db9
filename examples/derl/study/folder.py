"""The folder of a study: the options that its cells share, and the data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from derl.data.console import say
from derl.data.files import is_draft, write_file
from derl.data.label_counts import describe_label_counts
from derl.data.load import data_checksum, load_data
from derl.train.encoder import find_encoder, load_tokenizer
from derl.train.options import Options
from derl.train.recipes import WORDS
from derl.train.run import DATA, RunError

STUDY = "study.json"
LOCK = ".study.lock"
OWN = {LOCK, DATA}  # leftovers of a failed attempt to open a study


def open_study(folder: Path, options: Options, given: Sequence[str]) -> Options:
    """Create a study, or open the one in ``folder``, which stores its options.

    Args:
        folder: the study's folder.
        options: options that the cells of a new study share.
        given: names of the options that the user set. An existing study must have been started with the same values.

    Returns:
        The study's options.

    Raises:
        RunError: The folder cannot be written, holds something else, or holds a study with other options or other data;
            or the text encoder does not exist.
    """
    if (folder / STUDY).exists():
        return read_study(folder, options, given)
    if folder.exists() and (not folder.is_dir() or not all(map(_is_own, folder.iterdir()))):
        raise RunError(f"{folder}: expected a new or empty folder, or a study; choose another --study.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            if (folder / STUDY).exists():  # another process created it first
                return read_study(folder, options, given)
            checksum, has_text = None, True
            if options.data is not None:
                splits = load_data(options.data, folder / DATA)  # converted once, not by every process
                for line in describe_label_counts(splits, options.preset):
                    say(line)
                checksum, has_text = data_checksum(Path(options.data)), "text" in splits["train"].modalities
            if has_text and options.text_encoder not in (None, WORDS):
                load_tokenizer(find_encoder(options.text_encoder))  # fails before the study stores a wrong name
            content = {"options": asdict(options), "data_sha256": checksum}
            write_file(folder / STUDY, json.dumps(content, indent=2).encode())
    except OSError as error:
        raise RunError(f"{folder}: expected a folder that can be written, found {error.strerror}.") from error
    return options


def _is_own(entry: Path) -> bool:
    return entry.name in OWN or is_draft(entry)


def read_study(folder: Path, options: Options, given: Sequence[str]) -> Options:
    """Read the options of an existing study; arguments and errors as for :func:`open_study`."""
    path = folder / STUDY
    try:
        content = json.loads(path.read_text())
        found, checksum = Options(**content["options"]), content["data_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: expected a study's options in this version's format, found {error!r}; choose another --study."
        ) from error
    for name in given:
        if getattr(found, name) != getattr(options, name):
            raise RunError(
                f"{folder}: expected the options that this study was started with, --{name} {getattr(found, name)}, "
                f"got --{name} {getattr(options, name)}; leave it out, or choose another --study."
            )
    if found.data is not None and Path(found.data).exists() and data_checksum(Path(found.data)) != checksum:
        raise RunError(
            f"{found.data}: expected the file that this study was started with (sha256 {checksum}), found another; "
            "restore it, or choose another --study."
        )
    return found
