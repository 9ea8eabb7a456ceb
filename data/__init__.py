"""Data sets by name or path. A new one is one file here with load(data_dir, download), and one row in DATASETS."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import cifar10, digits, idx, images, mnist, npz, sprites
from .dataset import DataError, Dataset
from .files import reason

__all__ = ["DATASETS", "DataError", "Dataset", "binarize", "default_dir", "load"]

DATASETS: dict[str, Callable[[Path, bool], Dataset]] = {
    "digits": digits.load,
    "mnist": mnist.load,
    "cifar10": cifar10.load,
    "sprites": sprites.load,
}


def load(source: str, data_dir: Path | None = None, size: int | None = None, download: bool = True) -> Dataset:
    """A named data set, found under `data_dir` or downloaded there; or the user's own images at a path.

    A path is a folder of pictures (scaled to `size`), a folder of IDX files, or an .npz. Raises DataError.
    """
    try:
        own = Path(source)
        pictures = source not in DATASETS and own.is_dir() and not idx.find(own, *idx.TRAIN, *idx.TEST)
        if size is not None and not pictures:
            raise DataError(f"--size is used only with a folder of pictures, which {source} is not")
        if source in DATASETS:
            return DATASETS[source](Path(data_dir or default_dir()), download)
        if pictures:
            return images.load_folder(own, size)
        if own.is_dir():
            return idx.load_folder(own)
        if own.is_file():
            return npz.load(own)
    except OSError as error:
        raise DataError(f"{source} could not be loaded: {reason(error)}") from error
    except MemoryError as error:
        raise DataError(f"{source} does not fit into memory; use fewer or smaller images") from error
    choices = ", ".join(DATASETS)
    raise DataError(f"unknown data {source!r}: choose {choices}, or the path of a folder of images or of an .npz")


def default_dir() -> Path:
    """$TAMING_VAES_DATA, else taming-vaes in the user's cache directory."""
    if chosen := os.environ.get("TAMING_VAES_DATA"):
        return Path(chosen)
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "taming-vaes"


def binarize(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Static binarization: one draw of 0 or 255 a pixel, which is 255 with the pixel as probability; uint8, as shaped.

    The same seed draws the same; no pixels are kept in floats but those of a block of images.
    """
    rng = np.random.default_rng(seed)
    white = 255 if pixels.dtype == np.uint8 else 1
    drawn = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), 1024):
        block = pixels[start : start + 1024]
        drawn[start : start + 1024] = np.where(rng.random(block.shape, np.float32) * white < block, 255, 0)
    return drawn
