"""The data: handwritten digits, as three sensors would record them."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import dctn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor

Views = dict[str, Tensor]
SHAPES = {"pixels": (8, 8), "edges": (4, 16), "waves": (4, 4)}  # frames, features
NUM_CLASSES = 10
LARGEST = 5.0  # limit of a standardized feature: some pixels are dark in all but a few images


class Split(NamedTuple):
    """``views``: name -> ``(n, frames, features)``, standardized. ``labels``: digits ``(n,)``."""

    views: Views
    labels: Tensor


def load_views() -> dict[str, Split]:
    """Load scikit-learn's 1797 digits in a fixed stratified split: train (60%), valid and test (20% each)."""
    digits = load_digits()
    raw = see(digits.images)
    train, rest = train_test_split(np.arange(len(digits.target)), test_size=0.4, stratify=digits.target, random_state=0)
    valid, test = train_test_split(rest, test_size=0.5, stratify=digits.target[rest], random_state=0)
    scalers = {name: StandardScaler().fit(_flat(view[train])) for name, view in raw.items()}
    return {
        split: Split(
            {
                name: torch.from_numpy(scalers[name].transform(_flat(view[rows])).reshape(len(rows), *SHAPES[name]))
                .float()
                .clamp(-LARGEST, LARGEST)
                for name, view in raw.items()
            },
            torch.from_numpy(digits.target[rows]).long(),
        )
        for split, rows in {"train": train, "valid": valid, "test": test}.items()
    }


def see(images: np.ndarray) -> dict[str, np.ndarray]:
    """Turn images ``(n, 8, 8)`` into views ``(n, frames, features)``.

    | view | a frame is | its features are |
    |---|---|---|
    | ``pixels`` | a row of pixels | brightness |
    | ``edges`` | a band two rows high | strength of edges in four cells, by four directions |
    | ``waves`` | a vertical frequency, 0 to 3 | the cosine transform at horizontal frequencies 0 to 3 |
    """
    down, right = np.gradient(images, axis=(1, 2))
    direction = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    edges = np.hypot(down, right)[..., None] * (direction[..., None] == np.arange(4))
    return {
        "pixels": images,
        "edges": edges.reshape(-1, 4, 2, 4, 2, 4).sum((2, 4)).reshape(-1, 4, 16),
        "waves": dctn(images, axes=(1, 2), norm="ortho")[:, :4, :4],
    }


def _flat(view: np.ndarray) -> np.ndarray:
    return view.reshape(len(view), -1)
