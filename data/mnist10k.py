"""The embedded MNIST: the 10,000 images of its published test file, 28×28 grey, split anew.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998, licence CC BY-SA 3.0. The files
t10k-*.xz hold the published t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, byte for byte, packed by xz.
"""

from pathlib import Path

import numpy as np

from . import idx
from .dataset import DataError, Dataset, classified, every
from .files import reason
from .mnist import SHA256

try:
    import lzma
except ImportError:  # some Pythons are built without it
    lzma = None


def load(data_dir: Path | None, download: bool) -> Dataset:
    """Every sixth image, 1,666, to test and the other 8,334 to train on; both hold the same writers.

    These scores are not MNIST's: the 10,000 images are those that MNIST keeps for its test. Both arguments are unused.
    Raises DataError for a file that is not the published one.
    """
    images, labels = _read("t10k-images-idx3-ubyte"), _read("t10k-labels-idx1-ubyte")
    pixels, test = images.reshape(len(images), -1), every(len(images), 6)
    known = classified(labels[~test], labels[test])
    return Dataset("mnist-10k", pixels[~test], pixels[test], (28, 28, 1), "every sixth is for testing", **known)


def _read(name: str) -> np.ndarray:
    if lzma is None:
        raise DataError("mnist-10k is packed by xz, which this Python was built without; use --data digits or mnist")
    path = Path(__file__).with_name(f"{name}.xz")
    try:
        with lzma.open(path) as stream:
            return idx.read_stream(stream, path, SHA256[name], "restore it from the repository")
    except (EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path}: found it damaged ({reason(error)}); restore it from the repository") from error
