"""Invented clips, since no test may need the data set."""

import numpy as np
import pytest

from actions.clips import JOINTS, MODALITIES, Clips
from actions.recordings import Recordings


@pytest.fixture
def clips():
    """Three actions by six subjects: a rhythm and a moving joint tell them apart."""
    generator = np.random.default_rng(0)
    action, subject, inertial, skeleton = [], [], [], []
    for actor in (1, 2, 3, 4, 5, 7):
        for act in range(3):
            fast, slow = generator.integers(40, 70), generator.integers(12, 24)
            wave = np.sin(np.linspace(0, (act + 1) * np.pi, fast))[:, None] * (1, 0.5, 0, 100, 0, 50)
            joints = generator.normal(size=(JOINTS, 3)).repeat(slow).reshape(JOINTS, 3, slow).transpose(2, 0, 1).copy()
            joints[:, 10 + act] += np.linspace(0, 1, slow)[:, None]
            joints += 0.1 * generator.normal(size=joints.shape)  # so bones change their lengths, as a Kinect's do
            action.append(act)
            subject.append(actor)
            inertial.append((wave + 0.1 * generator.normal(size=wave.shape)).astype(np.float32))
            skeleton.append(joints.astype(np.float32))
    return Clips(np.array(action), np.array(subject), inertial, skeleton)


@pytest.fixture
def recordings(clips):
    return Recordings(clips, np.arange(6))


@pytest.fixture
def arrays(clips):
    """The same clips, as the arrays of an .npz file."""
    return {
        "action": clips.action + 1,
        "subject": clips.subject,
        "trial": np.ones_like(clips.action),
        "inertial": np.concatenate(clips.inertial),
        "inertial_lengths": np.array([len(clip) for clip in clips.inertial]),
        "skeleton": np.concatenate(clips.skeleton).reshape(-1, 3 * JOINTS),
        "skeleton_lengths": np.array([len(clip) for clip in clips.skeleton]),
    }


@pytest.fixture
def file(arrays, tmp_path):
    np.savez(tmp_path / "clips.npz", **arrays)
    return tmp_path / "clips.npz"


@pytest.fixture(params=MODALITIES)
def modality(request):
    return request.param
