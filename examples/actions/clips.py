"""The data: clips of UTD-MHAD, read from one ``.npz`` file or from the folder of official ``.mat`` files."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat

JOINTS = 20
MODALITIES = ("accelerometer", "gyroscope", "skeleton")
NUM_ACTIONS = 27
FILE = re.compile(r"a(\d+)_s(\d+)_t(\d+)_inertial\.mat")
ARRAYS = ("action", "subject", "trial", "inertial", "inertial_lengths", "skeleton", "skeleton_lengths")


class Clips(NamedTuple):
    """Clips in the order of the file, or by action, subject and trial.

    Attributes:
        action: ``(n,)``, 0 to 26.
        subject: ``(n,)``, from 1.
        inertial: Per clip ``(T, 6)``: accelerometer in g, gyroscope in degrees per second, at about 50 Hz.
        skeleton: Per clip ``(T, 20, 3)``: joints in meters, at about 30 Hz.
    """

    action: np.ndarray
    subject: np.ndarray
    inertial: list[np.ndarray]
    skeleton: list[np.ndarray]


def read_clips(path: Path) -> Clips:
    """Read all clips.

    Args:
        path: An ``.npz`` file whose arrays (``ARRAYS``) hold the clips one after another, or a folder with files such
            as ``a1_s1_t1_inertial.mat`` and ``a1_s1_t1_skeleton.mat``, at any depth.

    Raises:
        FileNotFoundError: There is no such file or folder, or a clip has no skeleton file.
        ValueError: The file lacks an array, the folder has no clips, or an array has the wrong shape.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"read_clips expected an .npz file or a folder of .mat files, found nothing at {str(path)!r}. "
            "docs/actions.md says where to get UTD-MHAD."
        )
    return _read_npz(path)


def _read_npz(path: Path) -> Clips:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ARRAYS if name in file}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"read_clips expected an .npz file of arrays, could not read {str(path)!r}: {error}"
        ) from error
    if missing := [name for name in ARRAYS if name not in found]:
        raise ValueError(f"read_clips expected arrays {ARRAYS} in {str(path)!r}, found no {missing}.")
    parts = {}
    for name, width in (("inertial", 6), ("skeleton", 3 * JOINTS)):
        lengths, rows = found[f"{name}_lengths"], found[name]
        _check(name, rows, (int(lengths.sum()), width), path)
        parts[name] = np.split(rows.astype(np.float32), np.cumsum(lengths)[:-1])
    skeleton = [clip.reshape(-1, JOINTS, 3) for clip in parts["skeleton"]]
    counts = {name: len(found[name]) for name in ("action", "subject", "inertial_lengths", "skeleton_lengths")}
    if len({*counts.values()}) > 1:
        raise ValueError(f"read_clips expected one entry per clip in each array of {str(path)!r}, found {counts}.")
    return _clips(found["action"], found["subject"], parts["inertial"], skeleton, path)


def _read_folder(folder: Path) -> Clips:
    named = {}
    for file in folder.rglob("*_inertial.mat"):
        if match := FILE.fullmatch(file.name):
            named[tuple(int(part) for part in match.groups())] = file
    if not named:
        raise ValueError(
            f"read_clips expected files such as a1_s1_t1_inertial.mat in {str(folder)!r}, found none. "
            "Unpack Inertial.zip and Skeleton.zip of UTD-MHAD into it."
        )
    skeletons = {file.name: file for file in folder.rglob("*_skeleton.mat")}
    inertial, skeleton = [], []
    for key in sorted(named):
        name = named[key].name.replace("inertial", "skeleton")
        if name not in skeletons:
            raise FileNotFoundError(
                f"read_clips expected {name} beside {named[key].name} in {str(folder)!r}, found none. "
                "Unpack Skeleton.zip of UTD-MHAD into it."
            )
        inertial.append(_read_mat(named[key], "d_iner", (None, 6)).astype(np.float32))
        joints = _read_mat(skeletons[name], "d_skel", (JOINTS, 3, None))
        skeleton.append(joints.transpose(2, 0, 1).astype(np.float32))
    actions, subjects, _ = zip(*sorted(named), strict=True)
    return _clips(np.array(actions), np.array(subjects), inertial, skeleton, folder)


def _read_mat(file: Path, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    try:
        found = loadmat(file)
    except Exception as error:  # SciPy raises many kinds
        raise ValueError(f"read_clips expected a MATLAB file, could not read {str(file)!r}: {error}") from error
    if name not in found:
        raise ValueError(f"read_clips expected a variable {name!r} in {str(file)!r}, found none.")
    _check(name, found[name], shape, file)
    return found[name]


def _check(name: str, array: np.ndarray, shape: Iterable[int | None], path: Path) -> None:
    shape = tuple(shape)
    fits = array.ndim == len(shape) and all(size in (None, got) for size, got in zip(shape, array.shape, strict=True))
    if not fits or not array.size:
        wanted = "(" + ", ".join("T" if size is None else str(size) for size in shape) + ")"
        raise ValueError(f"read_clips expected {name} {wanted} in {str(path)!r}, got {array.shape}.")


def _clips(
    action: np.ndarray, subject: np.ndarray, inertial: list[np.ndarray], skeleton: list[np.ndarray], path: Path
) -> Clips:
    if action.min() < 1 or action.max() > NUM_ACTIONS:
        raise ValueError(
            f"read_clips expected actions 1 to {NUM_ACTIONS} in {str(path)!r}, got {action.min()} to {action.max()}."
        )
    if min(map(len, inertial)) == 0 or min(map(len, skeleton)) == 0:
        raise ValueError(f"read_clips expected at least one frame per clip in {str(path)!r}, found a clip without.")
    return Clips(action - 1, subject, inertial, skeleton)
