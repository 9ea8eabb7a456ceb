"""The user's arrays, in memory, an .npz or .npy. Nothing in a file is unpickled or believed."""

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from .dataset import Dataset, classified, divided, held_out, plausible, unit
from .files import DataError, read_exactly, reason

# An .npz holds the first of these pairs that is there, or one array; and the first labels.
PAIRS = (("train", "test"), ("x_train", "x_test"), ("train_images", "test_images"))
LABELS = (("y_train", "y_test"), ("train_labels", "test_labels"), ("labels",))
VERSIONS = {(1, 0): 2, (2, 0): 4, (3, 0): 4}  # bytes that hold a header's length
HEADER = 10_000  # bytes; NumPy's parser takes no more
RATIO = 1000  # deflate reaches 1032 on zeros


def dataset(
    name: str, what: str, images: dict, labels=None, shape: Sequence[int] | None = None, split: str = "shuffled"
) -> Dataset:
    """One array, which is divided by the rule `split`, or two: one to train on and one to test.

    Arrays are (N, H, W), (N, H, W, C) or (N, D): squares or strips, unless `shape` is their (H, W, C).
    `labels` are integers (N,), of each array or of all images. Raises DataError, which begins with `what`.
    """
    first, array = next(iter(images.items()))
    shape = tuple(_picture(f"{what}: {first}", array) if shape is None else shape)
    pixels = all_rows(what, images, shape)
    counts = [len(part) for part in pixels]
    if labels is not None:
        found = [len(part) for part in labels]
        if found not in (counts, [sum(counts)]):
            raise DataError(f"{what}: expected a label for each image, {counts}, found {found} labels")
        labels = np.concatenate(labels).astype(np.int64)
    if len(pixels) == 2:
        classes = {} if labels is None else classified(labels[: counts[0]], labels[counts[0] :])
        return Dataset(name, *pixels, shape, f"the arrays {' and '.join(images)}", **classes)
    if counts[0] < 2:
        raise DataError(f"{what}: expected at least two images, found 1")
    test, rule = held_out(counts[0], split, labels)
    return divided(name, pixels[0], test, shape, rule, labels)


def all_rows(what: str, images: dict, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """The `rows` of each array, all of one type."""
    pixels = [rows(f"{what}: {key}", array, shape) for key, array in images.items()]
    if len({array.dtype for array in pixels}) > 1:
        raise DataError(f"{what}: expected arrays of one type, found uint8 and float32")
    return pixels


def rows(what: str, images, shape: tuple[int, int, int]) -> np.ndarray:
    """Images of this shape, or rows, checked. Raises DataError.   -> (N, D), uint8 or float32 in [0, 1]"""
    array = _array(what, images)
    accepted = [tuple(shape), (math.prod(shape),)]
    if shape[2] == 1:
        accepted.append(tuple(shape[:2]))
    if array.shape[1:] not in accepted:
        wanted = " or ".join(f"(N, {', '.join(map(str, form))})" for form in accepted)
        raise DataError(f"{what} has shape {array.shape}, expected {wanted}")
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype != np.uint8:
        array = unit(what, array)
    return plausible(what, array.reshape(len(array), -1))


def _array(what: str, images) -> np.ndarray:
    """An array of a shape and type that images may have, of arrays, lists and tables."""
    if np.ma.is_masked(images):
        count = np.ma.count_masked(images)
        raise DataError(f"{what} has {count:,} masked values; fill them or leave the images out")
    try:
        array = np.asarray(images)
    except (ValueError, TypeError) as error:  # lists of unequal lengths, tensors on a GPU, …
        raise DataError(f"{what} is no array of numbers ({reason(error)})") from error
    _check_images(what, array.shape, array.dtype)
    return array


def _picture(what: str, images) -> tuple[int, int, int]:
    """(H, W, C) of images that are stored in an array."""
    shape = _array(what, images).shape
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        return (side, side, 1) if side * side == shape[1] else (1, shape[1], 1)
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) >= 8:  # smaller ones are images 3 or 4 wide
        advice = f"give several as (N, H, W, 3), and series as rows (N, {shape[1] * shape[2]})"
        raise DataError(f"{what} has shape {shape}, which is one picture or series; {advice}")
    return (*shape[1:3], shape[3] if len(shape) == 4 else 1)


def read(path: Path) -> tuple[dict, list | None, str]:
    """Images and labels, as `dataset` takes them; and "", or the rule of the split. Raises DataError."""
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                file.seek(0)
                return {"images": read_npy(f"{path}", file, _check_images)}, None, ""
            with zipfile.ZipFile(file) as archive:
                return *_members(path, archive), ""
    except (DataError, MemoryError, OSError):
        raise
    except Exception as error:  # zipfile, zlib and the header's parser have many
        raise DataError(f"{path} is no .npz or .npy that can be read ({reason(error)})") from error


def _members(path: Path, archive: zipfile.ZipFile) -> tuple[dict, list | None]:
    """The arrays of the layout that is there."""
    names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    of_labels = sum(LABELS, ())
    alone = [name for name in names if name not in of_labels]
    pair = _first(PAIRS, names)
    if not pair and len(alone) != 1:
        pairs = ", ".join(" and ".join(pair) for pair in PAIRS)
        found = ", ".join(map(repr, names[:5])) or "nothing"  # a name may hold a line break
        raise DataError(f"{path}: expected one array of images, or two named {pairs}; found {found}")
    images, labels = {}, []
    for name in pair or alone:
        images[name] = read_array(f"{path}: {name}", archive, name, _check_images)
    for name in _first(LABELS, names):
        labels.append(read_array(f"{path}: {name}", archive, name, _check_labels).reshape(-1))
    return images, labels or None


def _first(layouts: Iterable[tuple[str, ...]], names: list[str]) -> tuple[str, ...]:
    return next((layout for layout in layouts if {*layout} <= {*names}), ())


def read_array(what: str, archive: zipfile.ZipFile, name: str, check_header: Callable) -> np.ndarray:
    """One array of an .npz. Raises DataError, what zipfile does, and what check_header does before a byte is read."""
    info = archive.getinfo(f"{name}.npy")
    packed = info.compress_size  # zipfile does not read on when the file ends before that
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.file_size > RATIO * packed:
        raise DataError(f"{what} claims {info.file_size} bytes in {packed}, as no array is stored")
    with archive.open(info) as member:
        return read_npy(what, member, check_header)


def read_npy(what: str, stream: BinaryIO, check_header: Callable) -> np.ndarray:
    """The array of an .npy, as read_array."""
    version = npy.read_magic(stream)
    length = stream.read(VERSIONS[version])
    size = int.from_bytes(length, "little")
    if size > HEADER:
        raise DataError(f"{what} has a header of {size} bytes, expected {HEADER} at most")
    parse = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = parse(io.BytesIO(length + stream.read(size)))
    check_header(what, shape, dtype)
    array = np.frombuffer(read_exactly(what, stream, math.prod(shape) * dtype.itemsize), dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _check_images(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise DataError(f"{what} holds Python objects, which are never unpickled; store numbers")
    if dtype != np.uint8 and dtype.kind not in "fb":
        expected = "uint8 in 0..255 (x.astype('uint8')), booleans, or floats in [0, 1]"
        raise DataError(f"{what} is {dtype}, expected {expected}")
    if not 2 <= len(shape) <= 4 or min(shape) < 1 or (len(shape) == 4 and shape[3] not in (1, 3)):
        expected = "(N, H, W), (N, H, W, 1 or 3) or (N, D), none of them 0"
        raise DataError(f"{what} has shape {shape}, expected {expected}")


def _check_labels(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "iub" or not (len(shape) == 1 or shape[1:] == (1,)):
        raise DataError(f"{what} is {dtype} of shape {shape}, expected an integer for each image; or leave it out")
