"""CIFAR-10, binary version: 50,000 + 10,000 photographs, 32×32 RGB (A. Krizhevsky 2009)."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np

from .dataset import DataError, Dataset
from .download import absent, default_dir, fetch
from .files import digest, write_whole

URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"  # here and in the archive
TRAIN, TEST = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",)
IMAGES = 10_000  # in each file
RECORD = 1 + 3 * 32 * 32  # bytes: a label 0..9, then the red, green and blue planes
SHA256 = {  # of the sorted SHA-256s of the records: copies of CIFAR-10 are about that have them in another order
    TRAIN: "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
    TEST: "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(data_dir: Path | None, download: bool) -> Dataset:
    """CIFAR-10 from data_dir/cifar-10-batches-bin, else from its archive in data_dir, else downloaded there and kept.

    Raises DataError for files that hold other images or labels than the published ones, and for an archive of another
    MD5.
    """
    data_dir = data_dir or default_dir()
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
    (train, train_labels), (test, test_labels) = _read(folder, TRAIN), _read(folder, TEST)
    labels = (train_labels, test_labels)
    return Dataset("cifar10", train, test, (32, 32, 3), "as published", labels, CLASSES)


def _verify(archive: Path) -> None:
    found = digest(archive, "md5")
    if found != MD5:
        raise DataError(
            f"{archive}: expected an archive of MD5 {MD5}, found {found}; delete it, and it is downloaded again"
        )


def _extract(archive: Path, folder: Path, names: list[str]) -> None:
    """Copies the named files of the archive, which is the published one by its MD5; _read checks what they hold."""
    with tarfile.open(archive, "r:gz") as tar:
        for name in names:
            with tar.extractfile(f"{FOLDER}/{name}") as source:
                write_whole(folder / name, lambda file, source=source: shutil.copyfileobj(source, file))


def _read(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The files' images, (N, 3072), rows of H·W·C, and labels, (N,); one file at a time in memory beside them."""
    pixels, labels = np.empty((len(names) * IMAGES, RECORD - 1), np.uint8), np.empty(len(names) * IMAGES, np.int64)
    checksums = []
    for i, name in enumerate(names):
        path, rows = folder / name, slice(i * IMAGES, (i + 1) * IMAGES)
        size = path.stat().st_size
        if size != IMAGES * RECORD:
            raise DataError(f"{path}: expected {IMAGES * RECORD} bytes, found {size}; delete it, and it is restored")
        records = np.fromfile(path, np.uint8, IMAGES * RECORD).reshape(-1, RECORD)
        checksums += [hashlib.sha256(record).digest() for record in records]
        labels[rows] = records[:, 0]
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        pixels[rows].reshape(-1, 32, 32, 3)[:] = planes.transpose(0, 2, 3, 1)  # (N,C,H,W) -> (N,H,W,C)
    found = hashlib.sha256(b"".join(sorted(checksums))).hexdigest()
    if found != SHA256[names]:
        raise DataError(
            f"{folder}: expected the published images and labels, of SHA-256 {SHA256[names]}, in {', '.join(names)}, "
            f"found {found}; delete these files, and they are restored"
        )
    return pixels, labels
