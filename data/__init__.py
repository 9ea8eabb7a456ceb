"""Data sets by name or path. A new one is one file here with load(data_dir, download), and one row in DATASETS."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from . import cifar10, digits, idx, images, mnist, mnist10k, npz, sprites
from .dataset import DataError, Dataset
from .files import reason

__all__ = ["DATASETS", "DataError", "Dataset", "binarize", "default_dir", "images_at", "load"]

DATASETS: dict[str, Callable[[Path, bool], Dataset]] = {
    "mnist-10k": mnist10k.load,
    "digits": digits.load,
    "mnist": mnist.load,
    "cifar10": cifar10.load,
    "sprites": sprites.load,
}

KEPT = ("mnist", "cifar10")  # the data sets that lie under data_dir


def load(
    source: str,
    data_dir: Path | None = None,
    size: int | None = None,
    download: bool = True,
    split: str = "shuffled",
    skip_broken: bool = False,
) -> Dataset:
    """A named data set, found under `data_dir` or downloaded there; or the user's own images at a path.

    A path is a folder of pictures (scaled to `size`), a folder of IDX files, an .npz or an .npy. Raises DataError.
    """
    own = Path(source)
    with _told(source):
        pictures = source not in DATASETS and own.is_dir() and not _holds_idx(own)
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
    choices = ", ".join(DATASETS)
    raise DataError(f"unknown data {source!r}: choose {choices}, or the path of a folder of images or of an .npz")


def images_at(
    source: str | Path, shape: tuple[int, int, int], data_dir: Path | None = None, download: bool = True
) -> tuple[np.ndarray, list[str]]:
    """All images at a path, or the test images of a named data set, without a split: pixels (N, H·W·C), N names.

    Pictures, one or a folder of them, are brought to `shape`, (H, W, C): the middle of each is scaled, grey and colour
    are converted. Arrays must have it, or rows of H·W·C. Raises DataError.
    """
    source, own, shape = str(source), Path(source), tuple(shape)
    height, width, channels = shape
    with _told(source):
        if source not in DATASETS and not own.exists():
            raise DataError(f"{source}: expected pictures or arrays, found no such file or folder")
        if source in DATASETS or (own.is_dir() and _holds_idx(own)):
            data = load(source, data_dir, download=download)
            arrays = {"test": data.test} if source in DATASETS else {"train": data.train, "test": data.test}
            arrays = {name: array.reshape(-1, *data.shape) for name, array in arrays.items()}
        elif own.is_dir() or own.name.lower().endswith(images.EXTENSIONS):
            folder, names = (own, images.find(own)) if own.is_dir() else (own.parent, [own.name])
            if not names:
                raise DataError(f"{source}: expected pictures ({', '.join(images.EXTENSIONS)}), found none")
            return images.read(folder, names, (width, height), "L" if channels == 1 else "RGB")[0], names
        else:
            arrays, _ = npz.read(own)
    pixels = np.concatenate([npz.rows(f"{source}: {name}", array, shape) for name, array in arrays.items()])
    return pixels, [f"{name}/{i}" for name, array in arrays.items() for i in range(len(array))]


def _holds_idx(folder: Path) -> bool:
    return idx.find(folder, *idx.TRAIN, *idx.TEST) is not None


@contextmanager
def _told(source: str) -> Iterator[None]:
    """Within, what the system refuses is a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{source} could not be loaded: {reason(error)}") from error
    except MemoryError as error:
        raise DataError(f"{source} does not fit into memory; use fewer or smaller images") from error


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
