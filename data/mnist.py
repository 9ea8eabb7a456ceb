"""MNIST, 60,000 + 10,000 digits (LeCun, Cortes, Burges 1998), and mnist-10k, its test file."""

import hashlib
from pathlib import Path

import numpy as np

from . import idx
from .dataset import Dataset, classified, divided, every
from .download import absent, default_dir, fetch
from .files import DataError

MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
SHA256 = {  # of the decompressed files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
PARTS = dict(zip(SHA256, ("train images", "test images", "train labels", "test labels"), strict=True))


def load(data_dir: Path | None, download: bool) -> Dataset:
    """MNIST from data_dir/mnist, downloaded there if its images are missing. Raises DataError."""
    folder = (data_dir or default_dir()) / "mnist"
    there = idx.find(folder).get("", {})
    found = {name: there.get(part) for name, part in PARTS.items()}
    if not all(path for name, path in found.items() if "images" in name):
        found = {name: path or _download(folder, name, download) for name, path in found.items()}
    train, test, *labels = (path and idx.read_idx(path, SHA256[name]) for name, path in found.items())
    known = {} if any(read is None for read in labels) else classified(*labels)
    pixels = (images.reshape(len(images), -1) for images in (train, test))
    return Dataset("mnist", *pixels, (28, 28, 1), "as published", **known)


def _download(folder: Path, name: str, download: bool) -> Path:
    target = folder / f"{name}.gz"
    urls = [mirror + target.name for mirror in MIRRORS]
    if not download:
        raise absent(target, urls, "was not to be downloaded")
    fetch(urls, target, lambda path: idx.read_idx(path, SHA256[name]))
    return target


def load_10k(data_dir: Path | None, download: bool) -> Dataset:
    """The embedded test file of MNIST, of which every sixth image is for testing. No argument is used."""
    pixels = _embedded("t10k-images-idx3-ubyte")[16:].reshape(-1, 28 * 28)  # after the header
    labels = _embedded("t10k-labels-idx1-ubyte")[8:]
    test, rule = every(len(pixels), 6), "every sixth is for testing"
    return divided("mnist-10k", pixels, test, (28, 28, 1), rule, labels)


def _embedded(name: str) -> np.ndarray:
    """The bytes of a published file that lies here, packed by xz."""
    path, content = Path(__file__).with_name(f"{name}.xz"), b""
    try:
        import lzma  # some Pythons are built without it

        content = lzma.decompress(path.read_bytes())
    except ImportError as error:
        raise DataError("mnist-10k needs xz, which this Python lacks; use --data digits") from error
    except lzma.LZMAError:
        pass  # content is empty, and so is not the published file
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise DataError(f"{path} is not the published file; restore it from the repository")
    return np.frombuffer(content, np.uint8)
