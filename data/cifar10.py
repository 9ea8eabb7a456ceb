"""CIFAR-10, binary version: 50,000 + 10,000 photographs, 32×32 RGB (A. Krizhevsky 2009)."""

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np

from .dataset import Dataset
from .download import absent, default_dir, fetch
from .files import DataError, write_whole

URLS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"  # here and in the archive
TRAIN, TEST = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",)
IMAGES = 10_000  # in each file
RECORD = 1 + 3 * 32 * 32  # bytes: a label 0..9, then the red, green and blue planes
SHA256 = {  # of the sorted SHA-256s of the records: some copies have another order
    TRAIN: "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
    TEST: "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(data_dir: Path | None, download: bool) -> Dataset:
    """CIFAR-10 from its files in data_dir, its archive there, or a download. Raises DataError."""
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
        with tarfile.open(archive, "r:gz") as tar:
            for name in missing:
                source = tar.extractfile(f"{FOLDER}/{name}")
                write_whole(folder / name, lambda file, source=source: shutil.copyfileobj(source, file))
    pixels, labels = zip(_read(folder, TRAIN), _read(folder, TEST), strict=True)
    return Dataset("cifar10", *pixels, (32, 32, 3), "as published", labels, CLASSES)


def _verify(archive: Path) -> None:
    found = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    if found != MD5:
        raise DataError(f"{archive}: expected MD5 {MD5}, found {found}; delete it, and it is downloaded again")


def _read(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The files' images, (N, 3072), rows of H·W·C, and labels, (N,)."""
    records = np.empty((len(names), IMAGES, RECORD), np.uint8)
    for batch, name in zip(records, names, strict=True):
        content = np.fromfile(folder / name, np.uint8)
        if content.size != batch.size:
            found = f"expected {batch.size} bytes, found {content.size}"
            raise DataError(f"{folder / name}: {found}; delete it, and it is restored")
        batch[:] = content.reshape(batch.shape)
    records = records.reshape(-1, RECORD)
    checksums = sorted(hashlib.sha256(record).digest() for record in records)
    found = hashlib.sha256(b"".join(checksums)).hexdigest()
    if found != SHA256[names]:
        files = ", ".join(names)
        raise DataError(f"{folder}: {files} are not the published files; delete them, and they are restored")
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    pixels = planes.transpose(0, 2, 3, 1).reshape(len(records), -1)  # (N, C, H, W) -> (N, H·W·C)
    return pixels, records[:, 0].astype(np.int64)
