"""Read the text files of the PhysioNet / Computing in Cardiology Challenge 2012."""

import csv
from pathlib import Path

import numpy as np

from icu.variables import HOURS, STATIC, VARIABLES

HEADER = ["Time", "Parameter", "Value"]
OUTCOME = "In-hospital_death"


def read_text(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``values`` (S, 48, 37), ``static`` (S, 5) and ``died`` (S,), by record number.

    Raises:
        ValueError: A file is missing, or a line is not what the challenge's are; the message names it.
    """
    outcomes = _read_outcomes(folder)
    files = {path.stem: path for path in folder.rglob("*.txt") if path.stem.isdigit()}
    lost = [record for record in outcomes if str(record) not in files]
    if lost:
        raise ValueError(f"{folder} has no file {lost[0]}.txt, one of {len(lost)} that its outcomes name.")
    stays = [_read_stay(files[str(record)]) for record in sorted(outcomes)]
    died = np.array([outcomes[record] for record in sorted(outcomes)])
    return np.stack([values for values, _ in stays]), np.stack([static for _, static in stays]), died


def _read_outcomes(folder: Path) -> dict[int, int]:
    """Return 1 per record that ended with death in hospital, else 0."""
    outcomes = {}
    for path in sorted(folder.rglob("Outcomes-*.txt")):
        for number, row in enumerate(csv.DictReader(path.read_text().splitlines()), start=2):
            try:
                outcomes[int(row["RecordID"])] = {"0": 0, "1": 1}[row[OUTCOME].strip()]
            except (KeyError, ValueError, AttributeError, TypeError):
                raise ValueError(f"{path}, line {number}: expected a RecordID, and 0 or 1 as {OUTCOME}.") from None
    if not outcomes:
        raise ValueError(f"{folder} has no Outcomes-*.txt with stays; unpack Outcomes-a.txt into it.")
    return outcomes


def _read_stay(path: Path) -> tuple[np.ndarray, np.ndarray]:
    values = np.full((HOURS, len(VARIABLES)), np.nan, dtype=np.float32)
    static = np.full(len(STATIC), np.nan, dtype=np.float32)
    lines = csv.reader(path.read_text().splitlines())
    if next(lines, None) != HEADER:
        raise ValueError(f"{path}, line 1: expected {','.join(HEADER)}.")
    for number, line in enumerate(lines, start=2):
        try:
            time, name, text = line
            hours, minutes = time.split(":")
            hour, value = int(hours), float(text)
            start = hour == int(minutes) == 0
        except ValueError:
            raise ValueError(f"{path}, line {number}: expected HH:MM, a name and a number, got {line}.") from None
        if name in STATIC and start and np.isnan(static[STATIC.index(name)]) and value >= 0:
            static[STATIC.index(name)] = value
        if name in VARIABLES and value >= 0:  # -1 is unknown
            values[min(hour, HOURS - 1), VARIABLES.index(name)] = value  # 48:00 belongs to the last hour
        elif name not in (*VARIABLES, *STATIC, "RecordID", ""):
            raise ValueError(f"{path}, line {number}: {name!r} is not one of the challenge's variables.")
    return values, static
