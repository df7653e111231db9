"""Invented stays, as arrays and as the challenge's text files."""

import numpy as np

from icu.stays import PARTS, SPLITS
from icu.variables import HOURS, STATIC, VARIABLES


def arrays(count=60):
    """Return the arrays of an ``.npz`` file: as sparse as the real ones, and death shows in the heart rate."""
    generator = np.random.default_rng(0)
    died = (np.arange(count) % 3 == 0).astype(np.int8)
    values = generator.gamma(4.0, 20.0, (count, HOURS, len(VARIABLES))).round(1).astype(np.float32)
    values[..., VARIABLES.index("HR")] += 100 * died[:, None]
    values[generator.random(values.shape) < 0.8] = np.nan
    static = generator.uniform(1, 90, (count, len(STATIC))).round(1).astype(np.float32)
    static[generator.random(static.shape) < 0.2] = np.nan
    values[:, 0, VARIABLES.index("Weight")] = static[:, STATIC.index("Weight")]  # the weight at admission is both
    splits = {}
    for number in range(1, SPLITS + 1):
        rows = np.random.default_rng(number).permutation(count).astype(np.int32)
        parts = np.split(rows, [count // 2, 3 * count // 4])
        splits |= {f"split{number}_{part}": found for part, found in zip(PARTS, parts, strict=True)}
    return {"values": values, "variables": np.array(VARIABLES), "static": static, "died": died} | splits


def write_npz(path, **changed):
    """Write an ``.npz`` file; an array given as None is left out."""
    np.savez(path, **{name: array for name, array in (arrays() | changed).items() if array is not None})
    return path


def write_text(folder):
    """Write the stays of ``arrays`` as the challenge's text files."""
    found = arrays()
    (folder / "set-a").mkdir(parents=True)
    outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for row, died in enumerate(found["died"]):
        record = 132000 + row
        outcomes.append(f"{record},6,1,5,-1,{died}")
        lines = ["Time,Parameter,Value", f"00:00,RecordID,{record}"]
        known = zip(STATIC, found["static"][row], strict=True)
        lines += [f"00:00,{name},{-1 if np.isnan(value) else value:.1f}" for name, value in known]
        for hour, column in np.argwhere(np.isfinite(found["values"][row])):
            name, value = VARIABLES[column], found["values"][row, hour, column]
            if (name, hour) == ("Weight", 0):
                continue
            lines += [f"{hour:02}:05,{name},{value + 1:.1f}"] * (hour % 2)  # an earlier value, which the next replaces
            lines.append(f"{hour:02}:37,{name},{value:.1f}")
        (folder / "set-a" / f"{record}.txt").write_text("\n".join(lines) + "\n")
    (folder / "Outcomes-a.txt").write_text("\n".join(outcomes) + "\n")
    return folder
