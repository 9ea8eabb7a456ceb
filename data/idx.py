"""IDX, the format of MNIST: big-endian sizes, then the bytes (LeCun, Cortes, Burges 1998)."""

import gzip
import hashlib
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .files import DataError, read_exactly, reason, shown

# such as emnist-letters-train-images-idx3-ubyte.gz and t10k-labels.idx1-ubyte
NAME = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?", re.IGNORECASE)
IMAGES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}


def read_idx(path: Path, sha256: str | None = None) -> np.ndarray:
    """The uint8 array of an IDX file, gzipped or not. Raises DataError unless its header and its `sha256` are true."""
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"  # the name may lie
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if gzipped else file as stream:
                return _read_stream(stream, path, sha256)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged gzip file ({reason(error)})") from error


def _read_stream(stream: BinaryIO, path: Path, sha256: str | None) -> np.ndarray:
    magic = stream.read(4)
    dimensions = {b"\0\0\x08\x01": 1, b"\0\0\x08\x03": 3}.get(magic, 0)
    sizes = stream.read(4 * dimensions)
    if not dimensions or len(sizes) < 4 * dimensions:
        found = (magic + sizes).hex() or "no data"
        raise DataError(f"{path}: expected an IDX header of 00000801 or 00000803 and sizes, found {found}")
    shape = struct.unpack(f">{dimensions}I", sizes)
    data = read_exactly(f"{path}", stream, math.prod(shape))
    if sha256:
        found = hashlib.sha256(magic + sizes + data).hexdigest()
        if found != sha256:
            raise DataError(f"{path}: expected SHA-256 {sha256}, found {found}; delete it, and it is downloaded again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def find(folder: Path) -> dict[str, dict[str, Path]]:
    """The IDX files in a folder by what stands before train or test, then by part: "train images", …"""
    sets: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = NAME.fullmatch(path.name)
        if match and path.is_file():
            part = "train" if match[2].lower() == "train" else "test"
            sets.setdefault(match[1], {}).setdefault(f"{part} {match[3].lower()}", path)
    return sets


def read(folder: Path) -> tuple[dict, list | None, str]:
    """As npz.read, of a folder of the IDX files of one data set."""
    sets = find(folder)
    if len(sets) > 1:
        raise DataError(f"{folder}: found files of {len(sets)} data sets, {[*map(shown, sets)]}; give each a folder")
    [paths] = sets.values()
    arrays = {}
    for part, wanted in IMAGES.items():
        path = paths.get(f"{part} images")
        if path is None:
            raise DataError(f"{folder}: a folder of IDX files needs {wanted} or its .gz; none found")
        images = read_idx(path)
        if images.ndim != 3:
            raise DataError(f"{path}: expected images (N, H, W), found sizes {images.shape}")
        arrays[part] = images[..., None]
    files = [paths.get("train labels"), paths.get("test labels")]
    labels = None if None in files else [read_idx(path) for path in files]
    return arrays, labels, "as its files say"
