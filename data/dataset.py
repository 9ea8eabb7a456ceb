"""What every loader returns, the rule by which it splits, and the one error it may raise."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPLITS = ("shuffled", "every-tenth")


class DataError(ValueError):
    """Bad input, as one sentence: which file or value, what was expected, what was found, what to do."""


class Dataset(NamedTuple):
    """Images in rows, H·W·C pixels each, channel last: uint8 in 0..255, or float32 in [0, 1]."""

    name: str
    train: np.ndarray  # (N, D)
    test: np.ndarray  # (M, D)
    shape: tuple[int, int, int]  # (H, W, C), H·W·C = D
    rule: str = "as given"  # by which images are for testing
    labels: tuple[np.ndarray, np.ndarray] | None = None  # (N,) and (M,), integers: the places in `classes`
    classes: tuple[str, ...] | None = None  # names of the labels
    files: tuple[list[str], list[str]] | None = None  # names of the pictures, relative to their folder
    factors: dict[str, np.ndarray] | None = None  # name -> (N + M,) integers: what `population` was drawn from

    @property
    def split(self) -> str:
        """One sentence: how many images are there to train on and to test, and by which rule."""
        return f"{len(self.train):,} images to train on and {len(self.test):,} to test: {self.rule}"

    @property
    def population(self) -> np.ndarray:
        """All images, those to train on before those to test.   -> (N + M, D)"""
        return np.concatenate([self.train, self.test])


def held_out(count: int, every: int = 10) -> np.ndarray:
    """Which of `count` images are for testing: every tenth, of fewer than ten the last.   -> (count,), booleans"""
    chosen = np.arange(count) % every == every - 1
    chosen[-1:] |= count < every
    return chosen


def classified(train: Sequence, test: Sequence) -> dict:
    """The fields `labels` and `classes` of a Dataset from the class of each image, all integers or all names."""
    values, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    return {"labels": (places[: len(train)], places[len(train) :]), "classes": tuple(map(str, values))}


def safe_name(path: Path) -> str:
    """A short name for the user's own data that is fit for a folder's name: ~/My pictures.npz → My-pictures."""
    path = path.resolve()
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:40] or "data"


def white(pixels: np.ndarray) -> int:
    """The value of a white pixel."""
    return 255 if pixels.dtype == np.uint8 else 1


def file_names(names):
    return [re.sub(r"[^\w.-]+", "-", name) for name in names]
