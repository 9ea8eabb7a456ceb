"""Pictures through Pillow: a folder of them as a data set."""

import os
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from .dataset import DataError, Dataset, classified, held_out, safe_name
from .files import reason

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SIDES = {  # the names of folders that are a split, in small letters
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
NAMED = 20  # broken pictures that an error names


def load_folder(folder: Path, size: int | None = None) -> Dataset:
    """The pictures in a folder and in all folders below it, split as data/README.md says.

    With `size` the middle square of each is scaled to (size, size); without, all must be of one size. RGB, unless all
    are grey. Raises DataError for fewer than two pictures, and for broken ones.
    """
    if size is not None and size < 1:
        raise DataError(f"--size must be at least 1, found {size}")
    names = find(folder)
    if len(names) < 2:
        raise DataError(
            f"{folder}: expected at least two pictures ({', '.join(EXTENSIONS)}) or train-images-idx3-ubyte, "
            f"found {len(names)}"
        )
    train, test, rule, known = _split(names)
    pixels, shape, greys = read(folder, train + test, size and (size, size))
    if shape[2] == 3 and greys:
        rule += f"; {greys:,} of them are grey and are read as RGB"
    pixels = pixels[: len(train)], pixels[len(train) :]
    return Dataset(safe_name(folder), *pixels, shape, rule, files=(train, test), **known)


def find(folder: Path) -> list[str]:
    """The pictures in a folder and in all below it, but hidden ones, relative to it and in order.

    A folder that links lead to twice is looked into once.
    """

    def fail(error: OSError) -> None:
        raise error

    names, seen = [], set()
    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        paths = [Path(root, name) for name in files if name[0] != "." and name.lower().endswith(EXTENSIONS)]
        names += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return sorted(names, key=lambda name: name.split("/"))


def _split(names: list[str]) -> tuple[list[str], list[str], str, dict]:
    """The pictures to train on, those to test, the rule, and the fields `labels` and `classes` if folders are classes.

    Folders named in SIDES are the split if there are some of both sides, at whatever depth, and classes no more.
    """
    sides = {"train": [], "test": [], "validation": [], None: []}
    for name in names:
        sides[next((SIDES[part] for part in name.lower().split("/")[:-1] if part in SIDES), None)].append(name)
    train, test = sides["train"], sides["test"] or sides["validation"]
    given = bool(train and test)
    if given:
        rule = f"the folders named train and {'test' if sides['test'] else 'validation'}"
        if others := len(names) - len(train) - len(test):
            rule += f"; {others:,} more, elsewhere, are left out"
    else:
        rule, chosen = "every tenth by name is for testing, or the last of fewer than ten", held_out(len(names))
        train = [name for name, out in zip(names, chosen, strict=True) if not out]
        test = [name for name, out in zip(names, chosen, strict=True) if out]

    def class_of(name: str) -> str:
        folders = [part for part in name.split("/")[:-1] if not (given and part.lower() in SIDES)]
        return folders[0] if folders else ""

    classes = [class_of(name) for name in train], [class_of(name) for name in test]
    several = len({*classes[0], *classes[1]}) > 1 and "" not in {*classes[0], *classes[1]}
    return train, test, rule, classified(*classes) if several else {}


def read(
    folder: Path, names: Sequence[str], size: tuple[int, int] | None = None, mode: str | None = None
) -> tuple[np.ndarray, tuple[int, int, int], int]:
    """The named pictures: pixels (N, H·W·C), their shape (H, W, C), and how many of them are grey.

    With `size` the middle of each is scaled to that width and height. `mode` is L for C = 1 or RGB for C = 3; without,
    it is RGB unless all are grey. Raises one DataError that names all that are broken, or else the sizes.
    """
    pixels, sizes, broken, greys = None, {}, [], 0
    for i, name in enumerate(tqdm(names, desc="pictures", leave=False, disable=None)):
        try:
            picture = _decode(folder / name, size, mode)
        except DataError as error:
            broken.append(f"{name} ({error})")
            continue
        sizes.setdefault(picture.shape[:2], []).append(name)
        greys += picture.shape[2] == 1
        if len(sizes) > 1:  # nothing will come of it: go on only to say all that is wrong
            continue
        if pixels is None:
            pixels = np.empty((len(names), *picture.shape), np.uint8)
        elif picture.shape[2] > pixels.shape[3]:
            pixels = pixels.repeat(3, axis=3)
        pixels[i] = picture
    _refuse(folder, len(names), broken, sizes)
    return pixels.reshape(len(names), -1), pixels.shape[1:], greys


def _refuse(folder: Path, count: int, broken: list[str], sizes: dict[tuple, list[str]]) -> None:
    """Raises DataError for broken pictures, or for pictures of several sizes."""
    if broken:
        listed = ", ".join(broken[:NAMED]) + f" and {len(broken) - NAMED} more" * (len(broken) > NAMED)
        raise DataError(
            f"{folder}: {len(broken)} of {count} pictures cannot be read: {listed}; "
            "delete them or move them elsewhere, and all others are read"
        )
    if len(sizes) > 1:
        often = sorted(sizes.items(), key=lambda item: -len(item[1]))[:3]
        found = ", ".join(f"{len(which)} of {wide} x {high} such as {which[0]}" for (high, wide), which in often)
        raise DataError(
            f"{folder}: expected pictures of one size, found {len(sizes)} sizes (width x height: {found}); "
            "give --size, to which the middle square of each is scaled"
        )


def _decode(path: Path, size: tuple[int, int] | None, mode: str | None) -> np.ndarray:
    """(H, W, C), uint8. Whatever goes wrong in Pillow is the file's fault, and a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = BytesIO(path.read_bytes())  # not the file, whose read(n) lays out n bytes, whatever n is claimed
            with Image.open(content, formats=FORMATS) as image:
                if image.width * image.height > max(1 << 24, 1000 * path.stat().st_size):
                    raise DataError(f"a file this small does not hold {image.width} x {image.height} pixels")
                if size is not None:
                    image.draft(None, (2 * size[0], 2 * size[1]))  # a large JPEG is decoded no larger than it must be
                mode = mode or ("L" if Image.getmodebase(image.mode) == "L" else "RGB")
                image = _opaque(ImageOps.exif_transpose(image)).convert(mode)
                if size is not None:
                    image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
                return np.asarray(image).reshape(image.height, image.width, -1)
    except UnidentifiedImageError as error:
        raise DataError(f"is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's readers have many
        raise DataError(reason(error)) from error


def _opaque(image: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel, on white where it is transparent: colour below that nobody sees is gone."""
    if image.mode == "F":
        raise DataError("its pixels are floats of unknown range; store them as .npz")
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip instead of scaling
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA"))
    return image
