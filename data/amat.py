"""H. Larochelle's .amat: a row of numbers an image, as text."""

import math
import warnings
from pathlib import Path

import numpy as np

from .files import DataError, reason


def read(path: Path) -> tuple[dict, list | None, str]:
    """As npz.read, of an .amat file, or of a folder with an .amat for training and an .amat for testing."""
    if path.is_file():
        images, labels = read_rows(path)
        return {"images": images}, None if labels is None else [labels], ""
    files = sorted(path.glob("*.amat"))
    arrays, labels = {}, []
    for side in ("train", "test"):
        found = [file for file in files if side in file.name.lower()]
        if len(found) != 1:
            raise DataError(f"{path}: needs one .amat with {side} in its name, found {[file.name for file in files]}")
        arrays[side], of_side = read_rows(found[0])
        labels.append(of_side)
    known = None if any(part is None for part in labels) else labels
    left_out = "; what is for validation is left out" if len(files) > 2 else ""
    return arrays, known, "as its files say" + left_out


def read_rows(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (N, D), booleans or floats; and labels (N,), the last column if rows are squares without it, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which npz refuses
            images, labels = np.loadtxt(path, np.float32, ndmin=2, encoding="utf-8"), None
    except ValueError as error:
        raise DataError(f"{path}: expected rows of numbers, of one length ({reason(error)})") from error
    columns = images.shape[1]
    if math.isqrt(columns) ** 2 != columns and math.isqrt(columns - 1) ** 2 == columns - 1:
        images, labels = images[:, :-1], images[:, -1]
    binary = ((images == 0) | (images == 1)).all()
    return images.astype(bool) if binary else images, labels
