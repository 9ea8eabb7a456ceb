"""Larochelle's .amat: a row of numbers an image, as text, among them the static binarization of MNIST (2011)."""

import math
import warnings
from pathlib import Path

import numpy as np

from . import npz
from .dataset import DataError, Dataset, safe_name
from .files import reason


def load(path: Path, split: str = "shuffled") -> Dataset:
    """A folder with one file of training and one of test images, or a file, which `split` divides. Raises DataError."""
    if path.is_file():
        images, labels = read(path)
        return npz.dataset(safe_name(path), f"{path}", {"images": images}, labels, split=split)
    files = sorted(path.glob("*.amat"))
    train = [file for file in files if "train" in file.name.lower()]
    test = [file for file in files if "test" in file.name.lower()]
    if len(train) != 1 or len(test) != 1:
        names = ", ".join(repr(file.name) for file in files)
        raise DataError(f"{path}: expected one .amat with train in its name and one with test, found {names}")
    arrays, labels = zip(read(train[0]), read(test[0]), strict=True)
    labels = None if any(found is None for found in labels) else np.concatenate(labels)
    data = npz.dataset(safe_name(path), f"{path}", {"train": arrays[0], "test": arrays[1]}, labels)
    return data._replace(rule="as its files say" + "; what is for validation is left out" * (len(files) > 2))


def read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (N, D), booleans if all their values are 0 and 1, else floats; and labels (N,), or None.

    The last column holds labels where the row is a square picture without it, and none with it. Raises DataError.
    """
    blocks = []
    try:
        with warnings.catch_warnings(), open(path, encoding="utf-8") as file:
            warnings.simplefilter("ignore")  # an empty block ends the loop
            while len(block := np.loadtxt(file, np.float32, max_rows=1000, ndmin=2)):
                blocks.append(block.astype(bool) if np.isin(block, (0, 1)).all() else block)
        array = np.concatenate(blocks)
    except ValueError as error:
        raise DataError(f"{path}: expected rows of numbers, of one length ({reason(error)})") from error
    columns = array.shape[1]
    if math.isqrt(columns) ** 2 != columns and math.isqrt(columns - 1) ** 2 == columns - 1:
        return array[:, :-1], array[:, -1].astype(np.int64)
    return array, None
