"""What every loader returns, and the one error it may raise."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np


class DataError(Exception):
    """Bad input, as one sentence: which file or value, what was expected, what was found, what to do."""


class Dataset(NamedTuple):
    """Images in rows, H·W·C pixels each, channel last: uint8 in 0..255, or float32 in [0, 1]."""

    name: str
    train: np.ndarray  # (N, D)
    test: np.ndarray  # (M, D)
    shape: tuple[int, int, int]  # (H, W, C), H·W·C = D
    factors: dict[str, np.ndarray] | None = (
        None  # name -> (M,) integers: what the test images were drawn from, if known
    )
    labels: tuple[np.ndarray, np.ndarray] | None = None  # integers of the training and of the test images
    classes: tuple[str, ...] | None = None  # the names of the labels


def safe_name(path: Path) -> str:
    """A short name for the user's own data that is fit for a folder's name: ~/My pictures.npz → My-pictures."""
    path = path.resolve()
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:40] or "data"


def white(pixels: np.ndarray) -> int:
    """The value of a white pixel."""
    return 255 if pixels.dtype == np.uint8 else 1
