"""Pictures through Pillow: 8 bits a channel, upright, on white where they are transparent."""

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from .dataset import plausible, unit
from .files import DataError, reason, shown

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no other reader is given a file
SUFFIXES = "png apng jpg jpeg jpe jfif jif webp bmp gif tif tiff pbm pgm ppm pnm"
EXTENSIONS = tuple(f".{suffix}" for suffix in SUFFIXES.split())
NAMED = 20  # broken pictures that a sentence names
DEEP = 64  # of 255: what no picture of more than 8 bits reaches has 12 or 14 bits in 16, or so
BITS, SIGNS, PHOTOMETRIC = 258, 339, 262  # tags of TIFF: bits of a channel; 2 = signed; 0 = white is zero


def read(
    folder: Path, names: Sequence[str], size: tuple | None = None, mode: str | None = None, skip_broken: bool = False
) -> tuple[np.ndarray, tuple[int, int, int], int, dict[str, str]]:
    """Pixels (N, H·W·C), their shape (H, W, C), how many are grey, and the broken pictures with the reason.

    With `size` the middle of each is scaled to (width, height). `mode` is L or RGB. Raises one DataError for
    all broken pictures, unless `skip_broken` leaves them out.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError("ImageFile.LOAD_TRUNCATED_IMAGES of Pillow hides broken pictures; set it to False")
    pixels, sizes, broken, greys, deep, done = None, {}, {}, 0, [], 0
    for name in tqdm(names, desc="pictures", leave=False, disable=None):
        try:
            picture, more_bits = _decode(folder / name, size, mode)
        except DataError as error:
            broken[name] = str(error)
            continue
        sizes.setdefault(picture.shape[:2], []).append(name)
        if len(sizes) > 1:  # nothing will come of it: go on only to say all that is wrong
            continue
        if pixels is None:
            pixels = np.empty((len(names), *picture.shape), np.uint8)
        elif picture.shape[2] > pixels.shape[3]:
            pixels = pixels.repeat(3, axis=3)
        pixels[done] = picture
        greys += picture.shape[2] == 1
        deep += [picture.max()] * more_bits
        done += 1
    if broken and not (skip_broken and sizes):
        found = f"{len(broken)} of {len(names)} pictures cannot be read: {listed(broken)}"
        raise DataError(f"{folder}: {found}; delete them or move them, or leave them out by --skip-broken")
    if len(sizes) > 1:
        often = sorted(sizes.items(), key=lambda item: -len(item[1]))[:3]
        found = ", ".join(f"{len(which)} of {w} x {h} such as {shown(which[0])}" for (h, w), which in often)
        raise DataError(f"{folder}: found pictures of {len(sizes)} sizes ({found}); give --size to scale them")
    if deep and max(deep) < DEEP:
        used = f"use {(max(deep) + 1) / 256:.2%} of the range of their type, as 12 bits in 16 do"
        raise DataError(f"{folder}: pictures of more than 8 bits {used}; multiply their values to fill it")
    return plausible(f"{folder}", pixels[:done].reshape(done, -1)), pixels.shape[1:], greys, broken


def listed(broken: dict[str, str]) -> str:
    """Broken pictures by name, with the reason: the first NAMED, and how many more."""
    first = [f"{shown(name)} ({why})" for name, why in sorted(broken.items())[:NAMED]]
    return ", ".join(first) + f" and {len(broken) - NAMED} more" * (len(broken) > NAMED)


def _decode(path: Path, size: tuple[int, int] | None, mode: str | None) -> tuple[np.ndarray, bool]:
    """(H, W, C), uint8, and whether the file has more bits. Raises DataError for any error."""
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*[Tt]runcated")
            # Not the file, of which read(n) makes room for n bytes, whatever n a header claims.
            image = Image.open(BytesIO(content), formats=FORMATS)
            if size is not None:
                image.draft(None, (2 * size[0], 2 * size[1]))  # for a large JPEG
            _check(image, content)
            mode = mode or ("L" if Image.getmodebase(image.mode) == "L" else "RGB")
            more_bits = image.mode[0] in "IF" or ";16" in str(image.tile)
            image = _opaque(ImageOps.exif_transpose(image), getattr(image, "tag_v2", {})).convert(mode)
            if size is not None:
                image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
            return np.asarray(image).reshape(image.height, image.width, -1), more_bits
    except UnidentifiedImageError as error:
        if content[:2] in (b"II", b"MM"):
            raise DataError("is a TIFF that is cut, or of a layout that Pillow does not read") from error
        raise DataError(f"is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's readers have many
        raise DataError(reason(error)) from error


def _check(image: Image.Image, content: bytes) -> None:
    """Raises DataError for several pages, a bomb, and a JPEG that was cut and filled up."""
    if image.format == "TIFF" and image.n_frames > 1:
        raise DataError(f"holds {image.n_frames} pages; store each as a file, or see data/README.md")
    if image.format == "TIFF" and image.mode == "L" and image.tag_v2.get(SIGNS) == (2,):
        raise DataError("holds signed bytes, which Pillow reads wrong; store all pictures as an .npz")
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or float("inf")):
        raise DataError(f"is a bomb, or too large: {image.width} x {image.height} pixels; scale it down")
    # The mark of a JPEG's end comes after the mark of its pixels.
    if content[:2] == b"\xff\xd8" and content.find(b"\xff\xd9", content.find(b"\xff\xda")) < 0:
        raise DataError("its end is missing: the file is truncated")


def _opaque(image: Image.Image, tags: dict) -> Image.Image:
    """The picture with 8 bits a channel, on white where it is transparent."""
    if image.mode[0] in "IF":  # which convert() would clip instead of scaling
        scaled = _scaled(np.asarray(image), tags)
        return Image.fromarray(255 - scaled if tags.get(PHOTOMETRIC) == 0 else scaled)
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image.convert("RGBA"))
    return image


def _scaled(values: np.ndarray, tags: dict) -> np.ndarray:
    """Floats, or integers of 12, 16 or 32 bits, scaled to 8 by the range of the stored type."""
    if values.dtype.kind == "f":
        return np.rint(255 * unit("its floats", values)).astype(np.uint8)
    bits, signed = tags.get(BITS, (16,))[0], tags.get(SIGNS, (1,))[0] == 2
    if signed and values.min() < 0:
        raise DataError("holds negative numbers; store floats in [0, 1] as an .npz")
    if bits == 32 and not signed:
        values = values.view(np.uint32)
    return (values >> (bits - 8 - signed)).clip(0, 255).astype(np.uint8)
