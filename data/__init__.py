"""Data sets by name or path. A new one is one file here with load(data_dir, download), and one row in DATASETS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from . import amat, cifar10, digits, folders, idx, images, mnist, mnist10k, npz, sprites
from .dataset import SPLITS, DataError, Dataset
from .download import default_dir
from .files import reason, shown

__all__ = ["DATASETS", "SPLITS", "DataError", "Dataset", "binarize", "default_dir", "images_at", "load"]

DATASETS: dict[str, Callable[[Path | None, bool], Dataset]] = {
    "mnist-10k": mnist10k.load,
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
    """A named data set, found under `data_dir` or downloaded there; or the user's own images at a path.

    A path is a folder of pictures, which are scaled to `size`, a folder of IDX or .amat files, an .npz, .npy or .amat.
    Images without a split of their own are split by the rule `split`, one of SPLITS. `skip_broken` leaves out pictures
    that cannot be read, and says so in the rule. Raises DataError.
    """
    with _told(source):
        kind, own = _kind(source, data_dir), Path(source)
        if kind is folders:
            return folders.load(own, size, split, skip_broken)
        for option, given in (("--size", size is not None), ("--skip-broken", skip_broken)):
            if given:
                raise DataError(f"{option} is used only with a folder of pictures, which {source} is not")
        if kind is None:
            return DATASETS[source](data_dir and Path(data_dir), download)
        if kind is images:
            raise DataError(folders.recipe(own) or f"{source} is one picture; give a folder of pictures")
        return kind.load(own, split)


def images_at(
    source: str | Path, shape: tuple[int, int, int], data_dir: Path | None = None, download: bool = True
) -> tuple[np.ndarray, list[str]]:
    """All images at a path, or the test images of a named data set, without a split: pixels (N, H·W·C), N names.

    Pictures, one or a folder of them, are brought to `shape`, (H, W, C): the middle of each is scaled, grey and colour
    are converted. Arrays must have that shape, or be rows of H·W·C. Raises DataError.
    """
    source, own, shape = str(source), Path(source), tuple(shape)
    with _told(source):
        kind = _kind(source, data_dir)
        if kind in (folders, images):
            return _pictures(own, shape)
        if kind is npz:
            arrays, _ = npz.read(own)
        elif kind is amat and own.is_file():
            arrays = {"images": amat.read(own)[0]}
        else:
            data = load(source, data_dir, download=download)
            arrays = {"test": data.test} if kind is None else {"train": data.train, "test": data.test}
            arrays = {name: array.reshape(-1, *data.shape) for name, array in arrays.items()}
    pixels = np.concatenate([npz.rows(f"{source}: {name}", array, shape) for name, array in arrays.items()])
    return pixels, [f"{name}/{i}" for name, array in arrays.items() for i in range(len(array))]


def _pictures(own: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, list[str]]:
    """As images_at, of pictures. Those of a model of vectors, whose images are lines, are not scaled."""
    (height, width, channels), left_out, folder, names = shape, "", own.parent, [own.name]
    if own.is_dir():
        folder, (names, left_out) = own, folders.find(own)
    if not names:
        raise DataError(f"{own}: expected pictures ({', '.join(images.EXTENSIONS)}), found none{left_out}")
    size = (width, height) if min(height, width) > 1 else None
    pixels, found, *_ = images.read(folder, names, size, "L" if channels == 1 else "RGB")
    if found != shape:
        raise DataError(f"{own}: expected images of shape {shape}, which are vectors, found pictures of shape {found}")
    return pixels, [shown(name) for name in names]


def _kind(source: str, data_dir: Path | None) -> ModuleType | None:
    """The module that reads a source, None for a named data set. Raises DataError for what is neither, or both."""
    own = Path(source)
    if source in DATASETS:
        # What lies in ./mnist may be the named data set's own folder.
        if own.exists() and not (data_dir or default_dir()).resolve() == Path.cwd():
            raise DataError(f"{source} is the name of a data set and of a file here: give ./{source} for the file")
        return None
    if own.is_dir():
        return idx if idx.find(own) else amat if any(own.glob("*.amat")) else folders
    if not own.is_file():
        choices = ", ".join(DATASETS)
        raise DataError(f"unknown data {source!r}: choose {choices}, or the path of a folder of images or of an .npz")
    if own.name.lower().endswith(images.EXTENSIONS):
        return images
    if own.suffix.lower() in (".amat", ".npz", ".npy"):
        return amat if own.suffix.lower() == ".amat" else npz
    if said := folders.recipe(own):
        raise DataError(said)
    return npz  # whose reader looks at what the file holds


@contextmanager
def _told(source: str) -> Iterator[None]:
    """Turns an error of the system within the block, such as a file that may not be read, into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{shown(source)} could not be loaded: {reason(error)}") from error
    except MemoryError as error:
        raise DataError(f"{shown(source)} does not fit into memory; use fewer or smaller images") from error


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
