"""IDX, the format of MNIST and its kin (Fashion-MNIST, EMNIST): a big-endian header of sizes, then the bytes.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998, describes it.
"""

import gzip
import hashlib
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .dataset import DataError, Dataset, classified, plausible, safe_name
from .files import read_at_most, reason, shown

# train-images-idx3-ubyte and its variants: emnist-letters-train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte, …
NAME = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?", re.IGNORECASE)


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


def find(folder: Path) -> dict[str, dict[str, Path]]:
    """The IDX files in a folder: what stands before the parts' names -> "train images", "test labels", … -> path.

    Of a file and its .gz the first is taken.
    """
    sets: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = NAME.fullmatch(path.name)
        if match and path.is_file():
            part = "train" if match[2].lower() == "train" else "test"
            sets.setdefault(match[1], {}).setdefault(f"{part} {match[3].lower()}", path)
    return sets


def load(folder: Path, split: str = "shuffled") -> Dataset:
    """A folder of the IDX files of one data set, with labels or without; its own split is taken. Raises DataError."""
    sets = find(folder)
    if len(sets) > 1:
        raise DataError(
            f"{folder}: expected the IDX files of one data set, found those of {len(sets)}, whose names begin with "
            f"{', '.join(repr(shown(name)) for name in sets)}; move each into a folder of its own"
        )
    paths = next(iter(sets.values()))
    train, test = _images(folder, paths, "train"), _images(folder, paths, "test")
    if train.shape[1:] != test.shape[1:]:
        raise DataError(f"{folder}: train and test images differ in size, {train.shape[1:]} and {test.shape[1:]}")
    pixels = (plausible(f"{folder}", images.reshape(len(images), -1)) for images in (train, test))
    known = _labels(paths, len(train), len(test))
    return Dataset(safe_name(folder), *pixels, (*train.shape[1:], 1), "as its files say", **known)


def _images(folder: Path, paths: dict[str, Path], part: str) -> np.ndarray:
    if f"{part} images" not in paths:
        wanted = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}[part]
        raise DataError(f"{folder}: a folder of IDX files needs {wanted}, or the same with .gz; none found")
    path = paths[f"{part} images"]
    images = read_idx(path)
    if images.ndim != 3:
        raise DataError(f"{path}: expected images (N, H, W), found sizes {images.shape}")
    return images


def _labels(paths: dict[str, Path], *counts: int) -> dict:
    """The fields `labels` and `classes`, where both files of labels are there."""
    files = [paths.get("train labels"), paths.get("test labels")]
    if None in files:
        return {}
    labels = [read_idx(path) for path in files]
    for path, found, count in zip(files, labels, counts, strict=True):
        if found.shape != (count,):
            raise DataError(f"{path}: expected {count} labels, one for each image, found sizes {found.shape}")
    return classified(*labels)
