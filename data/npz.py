"""The user's own arrays: an .npz with `train` and `test`. Nothing in it is unpickled or believed."""

import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from .dataset import DataError, Dataset, safe_name
from .files import read_at_most, reason

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
RATIO = 1000  # deflate reaches 1032 on nothing but zeros


def load(path: Path) -> Dataset:
    """`train` and `test`, uint8 or floats in [0, 1], of shape (N, H, W), (N, H, W, 1 or 3) or (N, D).

    Rows of a square number D are square pictures, others strips (1, D). Raises DataError.
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # a hostile header makes its parser talk on stderr
            names = archive.namelist()
            if not {"train.npy", "test.npy"} <= {*names}:
                found = ", ".join(map(repr, names[:5])) or "nothing"  # a name may hold a line break
                raise DataError(f"{path}: expected arrays named train and test, found {found}")
            train, test = (_pixels(f"{path}: {name}", archive, name) for name in ("train", "test"))
    except (DataError, MemoryError, OSError):
        raise
    except Exception as error:  # zipfile, zlib and the header's parser have many
        raise DataError(f"{path}: expected an .npz archive, found something else ({reason(error)})") from error
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise DataError(
            f"{path}: expected train and test of one size and type, found "
            f"{train.shape} {train.dtype} and {test.shape} {test.dtype}"
        )
    return Dataset(safe_name(path), *(x.reshape(len(x), -1) for x in (train, test)), _picture(train.shape))


def _picture(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 2:
        side = math.isqrt(shape[1])
        return (side, side, 1) if side * side == shape[1] else (1, shape[1], 1)
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
        shape, fortran, dtype = HEADERS[npy.read_magic(member)](member)
        check_header(what, shape, dtype)
        expected = math.prod(shape) * dtype.itemsize
        data = read_at_most(member, expected + 1)
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise DataError(f"{what} of shape {shape} needs {expected} bytes, found {found}")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _pixels(what: str, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    array = read_array(what, archive, name, _check_header)
    if array.dtype == np.uint8:
        return array
    if not (array.min() >= 0 and array.max() <= 1):  # false for NaN too
        raise DataError(f"{what} must lie in [0, 1], found {array.min():g} to {array.max():g}")
    return array.astype(np.float32)


def _check_header(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        raise DataError(f"{what} holds pickled Python objects, which are never loaded; store numbers")
    if dtype != np.uint8 and dtype.kind != "f":
        raise DataError(f"{what} is {dtype}, expected uint8 in 0..255 or floats in [0, 1]")
    if not 2 <= len(shape) <= 4 or min(shape) < 1 or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise DataError(
            f"{what} has shape {shape}, expected (N, H, W), (N, H, W, 1 or 3) or (N, D), and none of them 0"
        )
