"""Data sets by name or path. A new data set is a file here with load(data_dir, download), and a row of DATASETS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np

from . import amat, cifar10, digits, folders, idx, images, mnist, npz, sprites
from .dataset import SPLITS, Dataset, safe_name, white
from .download import default_dir
from .files import DataError, reason, shown

__all__ = ["DATASETS", "KEPT", "SPLITS", "DataError", "Dataset", "binarize", "default_dir", "images_at", "load"]

DATASETS: dict[str, Callable[[Path | None, bool], Dataset]] = {
    "mnist-10k": mnist.load_10k,
    "digits": digits.load,
    "mnist": mnist.load,
    "cifar10": cifar10.load,
    "sprites": sprites.load,
}
KEPT = ("mnist", "cifar10")  # the sets that lie under a data_dir


def load(
    source: str,
    data_dir: Path | None = None,
    size: int | None = None,
    download: bool = True,
    split: str = "shuffled",
    skip_broken: bool = False,
) -> Dataset:
    """A named data set, under `data_dir` or downloaded there; or the user's own images at a path. Raises DataError.

    `split` is the rule for images without a split. `size` scales pictures, `skip_broken` leaves out broken pictures.
    """
    own = Path(source)
    with _told(source):
        kind = _kind(source, data_dir)
        if kind is folders:
            return folders.load(own, size, split, skip_broken)
        if size is not None or skip_broken:
            raise DataError(f"{source} is no folder of pictures, which --size and --skip-broken are for")
        if kind is None:
            return DATASETS[source](data_dir and Path(data_dir), download)
        if kind is images:
            raise DataError(folders.recipe(own) or f"{source} is one picture; give a folder of pictures")
        arrays, labels, rule = kind.read(own)
        found = npz.dataset(safe_name(own), source, arrays, labels, split=split)
    return found._replace(rule=rule or found.rule)


def images_at(
    source: str | Path, shape: tuple[int, int, int], data_dir: Path | None = None, download: bool = True
) -> tuple[np.ndarray, list[str]]:
    """All images at a path, or a named set's for testing; pictures are scaled to `shape`.   -> (N, H·W·C), N names"""
    source, own, shape = str(source), Path(source), tuple(shape)
    with _told(source):
        kind = _kind(source, data_dir)
        if kind in (folders, images):
            return _pictures(own, shape)
        if kind is None:
            data = load(source, data_dir, download=download)
            arrays = {"test": data.test.reshape(-1, *data.shape)}
        else:
            arrays, *_ = kind.read(own)
        pixels = np.concatenate(npz.all_rows(source, arrays, shape))
    names = ([f"{name}/{i}" for i in range(len(array))] for name, array in arrays.items())
    return pixels, [*chain(*names)]


def _pictures(own: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, list[str]]:
    """As images_at, of pictures. For a model of vectors, whose height or width is 1, they are not scaled."""
    height, width, channels = shape
    folder, names = own.parent, [own.name]
    if own.is_dir():
        folder, (names, left_out) = own, folders.find(own)
        if not names:
            raise DataError(f"{own}: expected pictures ({', '.join(images.EXTENSIONS)}), found none{left_out}")
    size = (width, height) if min(height, width) > 1 else None
    pixels, found, *_ = images.read(folder, names, size, "L" if channels == 1 else "RGB")
    if found != shape:
        raise DataError(f"{own}: expected vectors of shape {shape}, found pictures of shape {found}")
    return pixels, [shown(name) for name in names]


def _kind(source: str, data_dir: Path | None) -> ModuleType | None:
    """The module that reads a source, None for a named data set. Raises DataError."""
    own = Path(source)
    if source in DATASETS:
        # What lies in ./mnist may be the named data set's own folder.
        if own.exists() and not Path(data_dir or default_dir()).resolve() == Path.cwd():
            raise DataError(f"{source} is the name of a data set and of a file here: give ./{source} for the file")
        return None
    if own.is_dir():
        if idx.find(own):
            return idx
        return amat if any(own.glob("*.amat")) else folders
    if not own.is_file():
        choices = ", ".join(DATASETS)
        raise DataError(f"no file, folder or data set is called {source!r}: choose {choices}, or images, also in .npz")
    name = own.name.lower()
    if name.endswith(images.EXTENSIONS):
        return images
    if name.endswith(".amat"):
        return amat
    if not name.endswith((".npz", ".npy")) and (said := folders.recipe(own)):
        raise DataError(said)
    return npz  # npz.read looks at what the file holds


@contextmanager
def _told(source: str) -> Iterator[None]:
    """Turns an error of the system, or of memory, into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{shown(source)} could not be loaded: {reason(error)}") from error
    except MemoryError as error:
        raise DataError(f"{shown(source)} does not fit into memory; use fewer or smaller images") from error


def binarize(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Static binarization: bytes, 255 with the pixel as probability, else 0, drawn once by the seed."""
    rng = np.random.default_rng(seed)
    drawn = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), 1024):
        block = pixels[start : start + 1024]
        uniform = rng.random(block.shape, np.float32)
        drawn[start : start + 1024] = 255 * (uniform * white(pixels) < block)
    return drawn
