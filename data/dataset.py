"""What every loader returns, the rules by which images are split, checks of values, and the one error of this room."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .files import shown

SPLITS = ("shuffled", "every-tenth")  # rules for images without a split of their own; the second is version 0.2's
DARK, FEW = 32, 10  # bytes all below DARK in FEW images or more, or 0 and 1 in any number, are no images in 0..255


class DataError(ValueError):
    """Bad input, as one sentence: which file or value, what was expected, what was found, what to do."""


class Dataset(NamedTuple):
    """Images in rows, H·W·C pixels each, channel last: uint8 in 0..255, or float32 in [0, 1]."""

    name: str
    train: np.ndarray  # (N, D)
    test: np.ndarray  # (M, D)
    shape: tuple[int, int, int]  # (H, W, C), H·W·C = D
    rule: str = "as given"  # by which images are for testing, and what was left out
    labels: tuple[np.ndarray, np.ndarray] | None = None  # (N,) and (M,), integers: the places in `classes`
    classes: tuple[str, ...] | None = None  # names of the labels
    files: tuple[list[str], list[str]] | None = None  # names of the pictures, relative to their folder
    factors: dict[str, np.ndarray] | None = None  # name -> (N + M,) integers: what `population` was drawn from

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
    """Which of `count` images are for testing, a tenth but at least one, and the rule as words.   -> (count,), booleans

    "shuffled" draws them by a fixed seed, and from each class in proportion where the images have `classes`: images
    are shuffled within their class, the classes are laid end to end in a shuffled order, and every tenth is taken.
    "every-tenth" takes every tenth in the order of the data. Raises DataError for another rule.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r} is not known; choose one of {', '.join(SPLITS)}")
    if split == "every-tenth":
        return every(count), "every tenth is for testing, or the last of fewer than ten"
    rng = np.random.RandomState(0)  # whose streams NumPy keeps in all versions
    order = rng.permutation(count)
    if classes is not None:
        values, places = np.unique(np.asarray(classes), return_inverse=True)
        rank = rng.permutation(len(values))[places]
        order = order[np.argsort(rank[order], kind="stable")]
    test = np.zeros(count, bool)
    test[order[every(count)]] = True
    share, where = "one" if count < 10 else "a tenth", "" if classes is None else " from the classes in proportion"
    return test, f"{share}, drawn by a fixed seed{where}, is for testing"


def classified(train: Sequence, test: Sequence) -> dict:
    """The fields `labels` and `classes` of a Dataset from the class of each image, all integers or all names."""
    values, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    return {"labels": (places[: len(train)], places[len(train) :]), "classes": tuple(map(str, values))}


def white(pixels: np.ndarray) -> int:
    """The value of a white pixel."""
    return 255 if pixels.dtype == np.uint8 else 1


def floats(pixels: np.ndarray, dtype=np.float32) -> np.ndarray:
    """Pixels as floats in [0, 1]: bytes are divided by 255, and floats only change their type."""
    scaled = pixels.astype(dtype)
    return scaled / 255 if pixels.dtype == np.uint8 else scaled


def plausible(what: str, pixels: np.ndarray) -> np.ndarray:
    """The same images. Raises DataError where bytes are 0 and 1, or so small that they are counts, masks or classes.

    Images that are all black pass: they are well defined, if useless.
    """
    top = int(pixels.max()) if pixels.dtype == np.uint8 else 0
    if top == 1 or (1 < top < DARK and len(pixels) >= FEW):
        raise DataError(
            f"{what}: expected bytes in 0..255, where 255 is white, found none above {top}; store black and white as "
            "booleans or as 255 * x, and counts, classes or dark images as floats in [0, 1]"
        )
    return pixels


def unit(what: str, array: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as float32; what lies beyond by no more than rounding is clipped. Raises DataError for others.

    The tolerance at 0 is relative to the largest value, so that small data are not rounded away.
    """
    low, high = array.min(), array.max()
    rounding = max(4 * float(np.finfo(array.dtype).eps), 1e-6)
    if np.isnan(low):
        places = np.argwhere(np.isnan(array))
        raise DataError(
            f"{what}: expected floats in [0, 1], found {len(places):,} NaN, the first at index "
            f"{tuple(places[0].tolist())}; replace them or leave these images out"
        )
    if not (low >= -rounding * high and high <= 1 + rounding):
        raise DataError(f"{what} must lie in [0, 1], found {low:.10g} to {high:.10g}; scale it, for example x / 255")
    if low < 0 or high > 1:
        array = array.clip(0, 1)
    return array.astype(np.float32, copy=False)


def safe_name(path: str | Path) -> str:
    """A short name for the user's own data that is fit for a folder's name: ~/My pictures.npz → My-pictures.

    It is never the name of a data set, so that the folders of their runs differ: digits/ → own-digits.
    """
    from . import DATASETS  # here, because that module imports this

    path = Path(path).resolve()
    stem = shown(path.name if path.is_dir() else path.stem)
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:40] or "data"
    return f"own-{name}" if name.lower() in DATASETS else name


def file_names(names: Sequence[str]) -> list[str]:
    """For each name the stem of a picture's file, which gets .png: none is a path or hidden, and no two are one file.

    Letters, digits, . and - stay, any other character becomes _, and .png at the end goes: a/b.png → a_b. Stems differ
    also where a file system ignores capitals and the composition of letters: the second a_b becomes a_b-2. No stem is
    `sheet`, the name of a file of this program, or a device of Windows. A stem has at most 60 characters.
    """
    given, stems = {"sheet": 1}, []
    for name in names:
        base = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFKC", str(name)))
        base = re.sub(r"\.png$", "", base, flags=re.IGNORECASE)[:50].strip(".-") or "image"
        if re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", base, re.IGNORECASE):
            base = f"_{base}"
        stem = base
        while stem.casefold() in given:
            given[base.casefold()] += 1
            stem = f"{base}-{given[base.casefold()]}"
        given[stem.casefold()] = 1
        stems.append(stem)
    return stems
