"""A study's folder: the options that all its cells share, and the data they were trained on."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from derl.data.files import is_draft, write_file
from derl.data.label_counts import describe_label_counts
from derl.data.load import data_checksum, load_data
from derl.train.options import Options
from derl.train.run import DATA, RunError
from derl.train.setup import load_tokenizer

STUDY = "study.json"
LOCK = ".study.lock"
OWN = {LOCK, DATA}  # what an opening that failed may have left


def open_study(folder: Path, options: Options, given: Sequence[str]) -> Options:
    """Make a study, or open the one in ``folder``, which remembers its options.

    Args:
        folder: of the study.
        options: what the cells of a new study share.
        given: which of them were asked for; an existing study must have been started with these.

    Returns:
        The study's options.

    Raises:
        RunError: the folder cannot be written, holds something else, or a study of other options or other data; or
            there is no such text encoder.
    """
    if (folder / STUDY).exists():
        return read_study(folder, options, given)
    if folder.exists() and (not folder.is_dir() or not all(map(_is_own, folder.iterdir()))):
        raise RunError(f"{folder}: expected a new or empty folder, or a study; choose another --study.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            if (folder / STUDY).exists():  # another process was faster
                return read_study(folder, options, given)
            checksum, has_text = None, True
            if options.data is not None:
                splits = load_data(options.data, folder / DATA)  # converted once, not by every process
                for line in describe_label_counts(splits, options.preset):
                    print(line)
                checksum, has_text = data_checksum(Path(options.data)), "text" in splits["train"].modalities
            if has_text and options.text_encoder is not None:
                load_tokenizer(options.text_encoder)  # before the study remembers a name that is wrong
            content = {"options": asdict(options), "data_sha256": checksum}
            write_file(folder / STUDY, json.dumps(content, indent=2).encode())
    except OSError as error:
        raise RunError(f"{folder}: expected a folder that can be written, found {error.strerror}.") from error
    return options


def _is_own(entry: Path) -> bool:
    return entry.name in OWN or is_draft(entry)


def read_study(folder: Path, options: Options, given: Sequence[str]) -> Options:
    """Read an existing study's options; arguments and errors are those of `open_study`."""
    path = folder / STUDY
    try:
        content = json.loads(path.read_text())
        found, checksum = Options(**content["options"]), content["data_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: expected a study's options, as this version writes them, found {error!r}; choose another --study."
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
            "bring it back, or choose another --study."
        )
    return found
