"""The images of a run: opened by name or path, made black and white once if asked to, and told by their checksum."""

import hashlib
import math
from pathlib import Path

import numpy as np

import data
from data import Dataset
from data.dataset import floats, white, with_validation
from experiment.record import IN_MEMORY, Images, Options, Run, UsageError

LEAST = 1e-9  # by which a pixel varies: its square is far from the smallest float32
BLOCK = 1 << 23  # pixels in float64 at once
HOW = ("size", "skip_broken", "data_dir")  # options on how images are opened
TRAIN_SEED, TEST_SEED = 0, 1  # of the one draw that makes grey images black and white


def opened(
    source: str,
    binarize: str,
    size: int | None = None,
    split: str = data.SPLITS[0],
    skip_broken: bool = False,
    data_dir: Path | str | None = None,
    given: Dataset | None = None,
    validation: int = 0,
) -> tuple[Dataset, Images]:
    """The images of --data, or those `given`, and their record. Raises UsageError for images that are all the same."""
    found = given or data.load(source, folder_of(source, data_dir), size, split=split, skip_broken=skip_broken)
    if validation:
        found = with_validation(found, validation)
    span = float(np.max(found.train.max(axis=0) - found.train.min(axis=0).astype(float)))
    if span == 0:
        what = "are all the same" if len(found.train) > 1 else "are a single one; give three images or more"
        raise UsageError(f"the training images of --data {source} {what}; there is nothing to learn")
    if span < LEAST:
        raise UsageError(f"the pixels of --data {source} vary by {span:.2g}, too little for 32-bit numbers; scale them")
    if binarize == "static":
        train, test = data.binarize(found.train, TRAIN_SEED), data.binarize(found.test, TEST_SEED)
        found = found._replace(train=train, test=test)
    where = (source, data_dir and str(data_dir), found.name, size, split, skip_broken)
    return found, Images(*where, found.shape, fingerprint(found), binarize, validation)


def folder_of(source: str, data_dir: Path | str | None, option: str = "--data") -> Path | None:
    """--data-dir. Raises UsageError for a source that does not lie there."""
    if data_dir is not None and source not in data.KEPT:
        raise UsageError(f"--data-dir is where {', '.join(data.KEPT)} are kept; {option} {source} does not use it")
    return data_dir and Path(data_dir)


def opened_again(run: Run, given: Options, what: str) -> tuple[Dataset, Images]:
    """The images of a run, from where `given` says that they lie. Raises UsageError for images that `what` had not."""
    before = run.images
    source = given.get("data", before.source)
    if source == IN_MEMORY:
        raise UsageError(f"{what} was trained on images in memory; add --data and a file that holds them")
    how = {"split": before.split, "validation": before.validation}
    if source == before.source:
        how |= {name: getattr(before, name) for name in HOW}
    how |= {name: given[name] for name in HOW if name in given}
    found, images = opened(source, before.binarize, **how)
    if images != before:
        raise UsageError(f"the images of --data {source} are not those that {what} was trained on")
    return found, images


def drawn_once(pixels: np.ndarray, binarize: str, seed: int = TRAIN_SEED) -> np.ndarray:
    """Images as a model is to see them: pixels that training draws anew each time are drawn once.   (N, D) -> (N, D)"""
    return data.binarize(pixels, seed) if binarize == "dynamic" else pixels


def test_images(run: Run, found: Dataset) -> np.ndarray:
    """The test images as a run is judged on them.   -> (M, D)"""
    return drawn_once(found.test, run.images.binarize, TEST_SEED)


def stream_of(pixels: np.ndarray) -> np.random.Generator:
    """Random numbers that follow from an image alone, whether it is of bytes or floats.   (D,)"""
    digest = hashlib.blake2b(np.ascontiguousarray(floats(pixels)), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def black_and_white(pixels: np.ndarray) -> np.ndarray:
    """Each grey image drawn black or white, with the grey as probability, by its own stream.   (N, D) -> (N, D)"""
    drawn = np.empty(pixels.shape, np.uint8)
    for row, image in zip(drawn, pixels, strict=True):
        row[...] = 255 * (stream_of(image).random(image.shape, np.float32) < floats(image))
    return drawn


def fingerprint(found: Dataset) -> str:
    """The checksum of all the images."""
    checksum = hashlib.sha256(np.ascontiguousarray(found.train))
    checksum.update(np.ascontiguousarray(found.test))
    return checksum.hexdigest()


def spread(images: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the images, evenly spread."""
    return images[np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)]


def total_variance(images: np.ndarray, about: np.ndarray | None = None) -> float:
    """Squared error of the mean of these images, or of the image `about`, in [0, 1]; a block of images at a time."""
    mean = images.mean(axis=0, dtype=np.float64) if about is None else about * white(images)
    size = max(1, min(250, BLOCK // images.shape[1]))
    blocks = (images[start : start + size] - mean for start in range(0, len(images), size))
    return sum(float(np.sum(block**2)) for block in blocks) / len(images) / white(images) ** 2


def a_pixel(error: float, pixels: int) -> tuple[float, float]:
    """A squared error an image as a root mean square a pixel, and as a peak signal-to-noise ratio in dB."""
    return math.sqrt(error / pixels), 10 * math.log10(pixels / error)


def reader(backend, pixels: np.ndarray, dynamic: bool):
    """read(rows, noise): the images of these rows as floats in [0, 1], binarized anew if `dynamic`.   (B,) -> (B, D)"""
    xp, images, scale = backend.xp, backend.asarray(pixels), 1 / white(pixels)

    def read(rows, noise):
        x = xp.take(images, rows, axis=0).astype(backend.dtype) * scale
        return (backend.uniform(noise, x.shape) < x).astype(backend.dtype) if dynamic else x

    return read
