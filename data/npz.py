"""The user's own arrays, in memory or in an .npz or .npy. Nothing in a file is unpickled or believed."""

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from .dataset import DataError, Dataset, classified, held_out, plausible, safe_name, unit
from .files import read_at_most, reason

PAIRS = (("train", "test"), ("x_train", "x_test"), ("train_images", "test_images"))
LABELS = (("y_train", "y_test"), ("train_labels", "test_labels"))  # or `labels`, of all the images in their order
# How many bytes hold a header's length. Version 3 differs in names of fields only, which arrays here have none of.
VERSIONS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}
HEADER = 10_000  # bytes; NumPy's headers have some hundred, and its parser takes no more
RATIO = 1000  # deflate reaches 1032 on nothing but zeros


def load(path: Path, split: str = "shuffled") -> Dataset:
    """The images of `read`, split as `dataset` says. Raises DataError."""
    return dataset(safe_name(path), f"{path}", *read(path), split=split)


def dataset(
    name: str, what: str, images: dict, labels=None, shape: Sequence[int] | None = None, split: str = "shuffled"
) -> Dataset:
    """One array, of which a tenth is for testing by the rule `split`, or two: one to train on and one to test.

    Arrays are (N, H, W), (N, H, W, C) or (N, D). Rows of a square number D are square pictures, others strips (1, D),
    unless `shape` is their (H, W, C). Raises DataError, in which `what` says where they come from.
    """
    arrays = {key: _array(f"{what}: {key}", value) for key, value in images.items()}
    first, count = next(iter(arrays.values())).shape, sum(map(len, arrays.values()))
    shape = tuple(shape or _picture(f"{what}: {next(iter(arrays))}", first))
    pixels = [rows(f"{what}: {key}", array, shape) for key, array in arrays.items()]
    if len(pixels) == 2:
        rule, test = f"the arrays {' and '.join(arrays)}", np.arange(count) >= len(pixels[0])
    elif count < 2:
        raise DataError(f"{what}: expected at least two images, found {count}")
    else:
        test, rule = held_out(count, split, labels)
        pixels = pixels[0][~test], pixels[0][test]
    known = {} if labels is None else classified(labels[~test], labels[test])
    return Dataset(name, *pixels, shape, rule, **known)


def rows(what: str, images, shape: tuple[int, int, int]) -> np.ndarray:
    """Images (N, H, W, C), (N, H, W) of one channel or (N, D), checked.   -> (N, D), uint8 or float32 in [0, 1]

    Booleans become bytes, and floats that a rounding takes out of [0, 1] are clipped. Raises DataError for an array of
    another shape or type, for a masked one, and for bytes that are no images in 0..255.
    """
    images, (height, width, channels) = _array(what, images), shape
    accepted = [tuple(shape), (height * width * channels,), *([(height, width)] if channels == 1 else [])]
    if images.shape[1:] not in accepted:
        wanted = " or ".join(f"(N, {', '.join(map(str, form))})" for form in accepted)
        raise DataError(f"{what} has shape {images.shape}, expected {wanted}")
    return plausible(what, _pixels(what, images).reshape(len(images), -1))


def _array(what: str, images) -> np.ndarray:
    """What NumPy makes of arrays, lists and tables: an array of a shape and type that images may have."""
    if np.ma.is_masked(images):
        raise DataError(f"{what} has {np.ma.count_masked(images):,} masked values; fill them or leave these images out")
    try:
        array = np.asarray(images)
    except (ValueError, TypeError) as error:  # lists of unequal lengths, tensors on a GPU, …
        raise DataError(f"{what} is no array of numbers ({reason(error)})") from error
    _check_images(what, array.shape, array.dtype)
    return array


def read(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The images of an .npz by the names of their arrays, one of them or a pair in PAIRS, or of an .npy; and their
    labels, integers (N,) in the same order, or None. Raises DataError.
    """
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                file.seek(0)
                return {"images": _pixels(str(path), read_npy(str(path), file, _check_images))}, None
            with zipfile.ZipFile(file) as archive:
                images, labels = _members(path, archive)
    except (DataError, MemoryError, OSError):
        raise
    except Exception as error:  # zipfile, zlib and the header's parser have many
        raise DataError(f"{path}: expected an .npz or .npy, found something else ({reason(error)})") from error
    if len({(array.shape[1:], array.dtype) for array in images.values()}) > 1:
        found = " and ".join(f"{name} {array.shape} {array.dtype}" for name, array in images.items())
        raise DataError(f"{path}: expected arrays of one size and type, found {found}")
    return images, labels


def _members(path: Path, archive: zipfile.ZipFile) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    of_labels = next((pair for pair in LABELS if {*pair} <= {*names}), ("labels",) if "labels" in names else ())
    rest = tuple(name for name in names if name not in ("labels", *LABELS[0], *LABELS[1]))
    of_images = next((pair for pair in PAIRS if {*pair} <= {*names}), rest)
    if len(of_images) != 1 and of_images not in PAIRS:
        pairs = ", ".join(" and ".join(pair) for pair in PAIRS)
        found = ", ".join(map(repr, names[:5])) or "nothing"  # a name may hold a line break
        raise DataError(f"{path}: expected one array of images, or two named {pairs}; found {found}")
    what = {name: f"{path}: {name}" for name in of_images + of_labels}
    images = {name: _pixels(what[name], read_array(what[name], archive, name, _check_images)) for name in of_images}
    if not of_labels:
        return images, None
    labels = [read_array(what[name], archive, name, _check_labels).reshape(-1) for name in of_labels]
    counts = [len(array) for array in images.values()]
    counts = counts if len(labels) == len(counts) else [sum(counts)]
    if [len(array) for array in labels] != counts:
        raise DataError(
            f"{path}: expected a label for each image, {counts} in {' and '.join(of_labels)}, "
            f"found {[len(array) for array in labels]}"
        )
    return images, np.concatenate(labels).astype(np.int64)


def _picture(what: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of images that are stored in an array of this shape."""
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        return (side, side, 1) if side * side == shape[1] else (1, shape[1], 1)
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) >= 8:  # smaller ones are images 3 or 4 wide
        raise DataError(
            f"{what} has shape {shape}, which is one picture in colour, or {shape[0]} series of {shape[2]} channels; "
            f"give several pictures as (N, H, W, 3), and series as rows (N, {shape[1] * shape[2]})"
        )
    return (*shape[1:3], shape[3] if len(shape) == 4 else 1)


def read_array(what: str, archive: zipfile.ZipFile, name: str, check_header: Callable) -> np.ndarray:
    """One array of an .npz: check_header(what, shape, dtype) refuses it before a byte of it is read. Raises DataError,
    and whatever a damaged archive makes zipfile raise.
    """
    info = archive.getinfo(f"{name}.npy")
    packed = info.compress_size  # zipfile does not read on when the file ends before that
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > RATIO * packed:
        raise DataError(f"{what} claims {info.file_size} bytes in {packed}, which is not how arrays are stored")
    with archive.open(info) as member:
        return read_npy(what, member, check_header)


def read_npy(what: str, stream: BinaryIO, check_header: Callable) -> np.ndarray:
    """The array of an .npy, as read_array; memory grows with what is there, never with what its header claims."""
    shape, fortran, dtype = _header(what, stream)
    check_header(what, shape, dtype)
    expected = math.prod(shape) * dtype.itemsize
    data = read_at_most(stream, expected + 1)
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise DataError(f"{what} of shape {shape} needs {expected} bytes, found {found}")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _header(what: str, stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type from a header whose length is checked before it is read."""
    version = npy.read_magic(stream)
    length = stream.read(VERSIONS[version])
    size = int.from_bytes(length, "little")
    if size > HEADER:
        raise DataError(f"{what} has a header of {size} bytes, expected {HEADER} at most")
    parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return parse(io.BytesIO(length + stream.read(size)))


def _pixels(what: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    return array if array.dtype == np.uint8 else unit(what, array)


def _check_images(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects, which are never unpickled; store an array of numbers")
    if dtype != np.uint8 and dtype.kind not in "fb":
        expected = "uint8 in 0..255 (x.astype('uint8') if the numbers are that), booleans, or floats in [0, 1]"
        raise DataError(f"{what} is {dtype}, expected {expected}")
    if not 2 <= len(shape) <= 4 or min(shape) < 1 or (len(shape) == 4 and shape[3] not in (1, 3)):
        expected = "(N, H, W), (N, H, W, 1 or 3) with the channels last, or (N, D), and none of them 0"
        raise DataError(f"{what} has shape {shape}, expected {expected}")


def _check_labels(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "iub" or not (len(shape) == 1 or shape[1:] == (1,)):
        raise DataError(
            f"{what} is {dtype} of shape {shape}, expected an integer for each image; store these or leave it out"
        )
