"""CIFAR-10, binary version: 50,000 + 10,000 photographs, 32×32 RGB (A. Krizhevsky 2009)."""

import shutil
import tarfile
from pathlib import Path

import numpy as np

from .dataset import DataError, Dataset
from .download import absent, fetch
from .files import digest, reason, write_whole

URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"  # here and in the archive
TRAIN, TEST = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",)
IMAGES = 10_000  # in each file
RECORD = 1 + 3 * 32 * 32  # bytes: a label 0..9, then the red, green and blue planes


def load(data_dir: Path, download: bool) -> Dataset:
    """CIFAR-10 from data_dir/cifar-10-batches-bin, else from its archive in data_dir, else downloaded there and kept.

    Raises DataError for a file of the wrong size or with impossible labels, and for an archive of another MD5.
    """
    folder = data_dir / FOLDER
    missing = [name for name in TRAIN + TEST if not (folder / name).is_file()]
    if missing:
        archive = data_dir / "cifar-10-binary.tar.gz"
        if archive.is_file():
            _verify(archive)
        elif download:
            fetch(URLS, archive, _verify)
        else:
            raise absent(archive, URLS, f"was not to be downloaded, nor is {missing[0]} in {folder}")
        _extract(archive, folder, missing)
    return Dataset("cifar10", _read(folder, TRAIN), _read(folder, TEST), (32, 32, 3))


def _verify(archive: Path) -> None:
    found = digest(archive, "md5")
    if found != MD5:
        raise DataError(
            f"{archive}: expected an archive of MD5 {MD5}, found {found}; delete it, and it is downloaded again"
        )


def _extract(archive: Path, folder: Path, names: list[str]) -> None:
    """Copy the named members, and nothing else, whatever paths or links the archive holds."""
    wanted = {f"{FOLDER}/{name}": name for name in names}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.pop(member.name, None)
                if name is None:
                    continue
                if not member.isreg() or member.size != IMAGES * RECORD:
                    raise DataError(f"{archive}: expected {member.name} to be a file of {IMAGES * RECORD} bytes")
                with tar.extractfile(member) as source:
                    write_whole(folder / name, lambda file, source=source: shutil.copyfileobj(source, file))
    except (DataError, OSError):
        raise
    except Exception as error:  # tarfile and zlib have many
        raise DataError(f"{archive}: expected a gzipped tar archive, found a damaged one ({reason(error)})") from error
    if wanted:
        raise DataError(f"{archive}: expected it to hold {next(iter(wanted))}, found none")


def _read(folder: Path, names: tuple[str, ...]) -> np.ndarray:
    """The files' images in one array, (N, 3072), rows of H·W·C; one file at a time in memory beside it."""
    pixels = np.empty((len(names) * IMAGES, RECORD - 1), np.uint8)
    for path, rows in zip([folder / name for name in names], np.split(pixels, len(names)), strict=True):
        size = path.stat().st_size
        if size != IMAGES * RECORD:
            raise DataError(f"{path}: expected {IMAGES * RECORD} bytes, found {size}; delete it, and it is restored")
        records = np.fromfile(path, np.uint8, IMAGES * RECORD).reshape(-1, RECORD)
        if records[:, 0].max() > 9:
            raise DataError(f"{path}: expected labels 0..9, found {records[:, 0].max()}; delete it, and it is restored")
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        rows.reshape(-1, 32, 32, 3)[:] = planes.transpose(0, 2, 3, 1)  # (N,C,H,W) -> (N,H,W,C)
    return pixels
