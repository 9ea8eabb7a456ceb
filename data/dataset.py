"""What every loader returns, the rules by which images are split, checks of values, and names."""

import re
import unicodedata
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .files import DataError, shown

SPLITS = ("shuffled", "every-tenth")  # for images without a split; every-tenth is version 0.2's rule
DARK, FEW = 32, 10  # FEW images or more, all below DARK, are no images in 0..255


class Dataset(NamedTuple):
    """Images in rows, channel last: uint8 in 0..255, or float32 in [0, 1]."""

    name: str
    train: np.ndarray  # (N, D)
    test: np.ndarray  # (M, D)
    shape: tuple[int, int, int]  # (H, W, C), H·W·C = D
    rule: str = "as given"  # of the split, and what was left out
    labels: tuple[np.ndarray, np.ndarray] | None = None  # (N,) and (M,), places in `classes`
    classes: tuple[str, ...] | None = None
    files: tuple[list[str], list[str]] | None = None  # of pictures, below their folder
    factors: dict[str, np.ndarray] | None = None  # (N + M,) integers, of `population`

    @property
    def split(self) -> str:
        """One sentence: how many images are there to train on and to test, and by which rule."""
        return f"{len(self.train):,} images to train on and {len(self.test):,} to test: {self.rule}"

    @property
    def population(self) -> np.ndarray:
        """All images, those to train on before those to test.   -> (N + M, D)"""
        return np.concatenate([self.train, self.test])


def every(count: int, step: int = 10) -> np.ndarray:
    """The images at places step, 2·step, …; of fewer than `step` images the last.   -> (count,), booleans"""
    chosen = np.arange(count) % step == step - 1
    chosen[-1:] |= count < step
    return chosen


def held_out(count: int, split: str, classes: Sequence | None = None) -> tuple[np.ndarray, str]:
    """Which images are for testing, (count,) booleans, a tenth or one; and the rule as words. Raises DataError.

    To draw from `classes` in proportion, images are shuffled within their class, and every tenth is taken of the
    classes end to end, in a shuffled order.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r} is not known; choose one of {', '.join(SPLITS)}")
    if split == "every-tenth":
        return every(count), "every tenth is for testing, or the last of fewer than ten"
    rng = np.random.RandomState(0)  # whose streams NumPy keeps in all versions
    order, where = rng.permutation(count), ""
    if classes is not None:
        values, places = np.unique(np.asarray(classes), return_inverse=True)
        rank = rng.permutation(len(values))[places]
        order = order[np.argsort(rank[order], kind="stable")]
        where = " from the classes in proportion"
    test = np.zeros(count, bool)
    test[order[every(count)]] = True
    return test, f"{'one' if count < 10 else 'a tenth'}, drawn by a fixed seed{where}, is for testing"


def with_validation(found: Dataset, count: int) -> Dataset:
    """`count` of the training images in the place of the test images. Raises DataError."""
    most = len(found.train) - 2
    if count > most:
        raise DataError(f"{count} images for validation leave too few to train on; hold out {most} at most")
    chosen = np.zeros(len(found.train), bool)
    chosen[np.random.RandomState(1).permutation(len(chosen))[:count]] = True
    labels = found.labels and (found.labels[0][~chosen], found.labels[0][chosen])
    files = found.files and tuple([*compress(found.files[0], part)] for part in (~chosen, chosen))
    rule = "held out of the training images by a fixed seed for validation, in the place of the test images"
    known = {"name": f"{found.name}-validation{count}", "rule": rule, "labels": labels, "files": files}
    return found._replace(train=found.train[~chosen], test=found.train[chosen], factors=None, **known)


def divided(name: str, pixels: np.ndarray, test: np.ndarray, shape: tuple, rule: str, labels=None) -> Dataset:
    """The Dataset of images (N, D), which are for testing where `test` (N,) is true."""
    known = {} if labels is None else classified(labels[~test], labels[test])
    return Dataset(name, pixels[~test], pixels[test], shape, rule, **known)


def classified(train: Sequence, test: Sequence) -> dict:
    """The fields `labels` and `classes` of a Dataset from the class of each image."""
    values, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    return {"labels": (places[: len(train)], places[len(train) :]), "classes": tuple(map(str, values))}


def white(pixels: np.ndarray) -> int:
    """The value of a white pixel."""
    return 255 if pixels.dtype == np.uint8 else 1


def floats(pixels: np.ndarray, dtype=np.float32) -> np.ndarray:
    """A copy of the pixels as floats in [0, 1]."""
    scaled = pixels.astype(dtype)
    scaled /= white(pixels)
    return scaled


def mean_of(pixels: np.ndarray) -> np.ndarray:
    """The mean of these images, in [0, 1].   (N, D) -> (D,), float64"""
    return pixels.mean(axis=0, dtype=np.float64) / white(pixels)


def plausible(what: str, pixels: np.ndarray) -> np.ndarray:
    """The same images. Raises DataError for bytes that are counts, masks or classes."""
    top = int(pixels.max()) if pixels.dtype == np.uint8 else 0
    if top == 1 or (1 < top < DARK and len(pixels) >= FEW):
        advice = "store black and white as booleans or 255 * x, and counts or dark images as floats"
        raise DataError(f"{what}: expected bytes in 0..255, found none above {top}; {advice}")
    return pixels


def unit(what: str, array: np.ndarray) -> np.ndarray:
    """Floats in [0, 1], or off by a rounding, as float32 in [0, 1]. Raises DataError for others."""
    low, high = array.min(), array.max()
    rounding = max(4 * float(np.finfo(array.dtype).eps), 1e-6)
    if np.isnan(low):
        first, *others = map(tuple, np.argwhere(np.isnan(array)).tolist())
        found = f"{1 + len(others):,} NaN, the first at index {first}"
        raise DataError(f"{what}: found {found}; leave these images out")
    if not (low >= -rounding * high and high <= 1 + rounding):
        raise DataError(f"{what} must lie in [0, 1], found {low:.10g} to {high:.10g}; scale it, for example x / 255")
    if low < 0 or high > 1:
        array = array.clip(0, 1)
    return array.astype(np.float32, copy=False)


def safe_name(path: str | Path) -> str:
    """A name for a run on the user's data: ~/My pictures.npz → My-pictures, digits/ → own-digits."""
    from . import DATASETS  # here, because that module imports this

    path = Path(path).resolve()
    stem = shown(path.name if path.is_dir() else path.stem)
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:40] or "data"
    return f"own-{name}" if name.lower() in DATASETS else name


def file_names(names: Sequence[str]) -> list[str]:
    """Stems of files, safe on any system, not `sheet`: a/b.png → a_b, a second a/b.png → a_b-2."""
    given, stems = {"sheet": 1}, []
    for name in names:
        base = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFKC", str(name)))
        base = re.sub(r"\.png$", "", base, flags=re.IGNORECASE)[:50].strip(".-") or "image"
        stem = base = re.sub(r"^(?=(con|prn|aux|nul|com\d|lpt\d)(\.|$))", "_", base, flags=re.IGNORECASE)
        while stem.casefold() in given:
            given[base.casefold()] += 1
            stem = f"{base}-{given[base.casefold()]}"
        given[stem.casefold()] = 1
        stems.append(stem)
    return stems
