"""IDX, the format of MNIST and its kin (Fashion-MNIST, KMNIST): a big-endian header of sizes, then the bytes.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998, describes it.
"""

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .dataset import DataError, Dataset, classified, safe_name
from .files import read_at_most, reason

TRAIN, TEST = ("train-images",), ("t10k-images", "test-images")
TRAIN_LABELS, TEST_LABELS = ("train-labels",), ("t10k-labels", "test-labels")


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """The uint8 array of an IDX file, gzipped or not: (N,) labels or (N, H, W) images.

    Raises DataError if the file is not exactly what its header says, or if `sha256` is given and is not the
    checksum of the decompressed file.
    """
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"  # the name may lie
            file.seek(0)
            if not gzipped:
                return read_stream(file, path, sha256)
            with gzip.GzipFile(fileobj=file) as stream:
                return read_stream(stream, path, sha256)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: a whole gzip file was expected, found a damaged one ({reason(error)})") from error


def read_stream(
    stream: BinaryIO, path: Path, sha256: str | None, mend: str = "delete it, and it is downloaded again"
) -> np.ndarray:
    """As read_idx, of the decompressed bytes of `path`; `mend` says what to do about another checksum."""
    magic = stream.read(4)
    if magic not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
        raise DataError(
            f"{path}: expected an IDX file of bytes (00000801 or 00000803), found {magic.hex() or 'no data'}"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: expected {4 * magic[3]} bytes of sizes in the IDX header, found {len(sizes)}")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    expected = math.prod(shape)
    if expected == 0:
        raise DataError(f"{path}: expected at least one item, found sizes {shape}")
    data = read_at_most(stream, expected + 1)
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise DataError(f"{path}: its IDX header {shape} promises {expected} bytes of data, found {found}")
    if sha256 is not None:
        checksum = hashlib.sha256(magic + sizes)
        checksum.update(data)
        if checksum.hexdigest() != sha256:
            raise DataError(f"{path}: expected contents with SHA-256 {sha256}, found {checksum.hexdigest()}; {mend}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def find(folder: Path, *stems: str) -> Path | None:
    """The first file there is of e.g. train-images-idx3-ubyte, .gz or not, also spelt train-images.idx3-ubyte."""
    names = (
        f"{stem}{dot}{kind}-ubyte{gz}"
        for stem in stems
        for kind in ("idx3", "idx1")
        for dot in "-."
        for gz in ("", ".gz")
    )
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load_folder(folder: Path) -> Dataset:
    """A folder of IDX files under MNIST's names, with labels or without. Raises DataError."""
    train, test = _images(folder, TRAIN), _images(folder, TEST)
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"{folder}: train and test images differ in size, {train.shape[1:]} and {test.shape[1:]}")
    height, width = train.shape[1:]
    pixels = (images.reshape(len(images), -1) for images in (train, test))
    known = _labels(folder, len(train), len(test))
    return Dataset(safe_name(folder), *pixels, (height, width, 1), "as its files say", **known)


def _images(folder: Path, stems: tuple[str, ...]) -> np.ndarray:
    path = find(folder, *stems)
    if path is None:
        raise DataError(
            f"{folder}: a folder of IDX files needs {stems[0]}-idx3-ubyte, or the same with .gz; none found"
        )
    images = read_idx(path)
    if images.ndim != 3:
        raise DataError(f"{path}: expected images (N, H, W), found sizes {images.shape}")
    return images


def _labels(folder: Path, *counts: int) -> dict:
    """The fields `labels` and `classes`, where both files of labels are there."""
    paths = [find(folder, *stems) for stems in (TRAIN_LABELS, TEST_LABELS)]
    if None in paths:
        return {}
    labels = [read_idx(path) for path in paths]
    for path, found, count in zip(paths, labels, counts, strict=True):
        if found.shape != (count,):
            raise DataError(f"{path}: expected {count} labels, one for each image, found sizes {found.shape}")
    return classified(*labels)
