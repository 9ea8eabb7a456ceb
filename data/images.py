"""Pictures through Pillow: a folder of them as a data set, and rows of them as one picture."""

import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from .dataset import DataError, Dataset, safe_name
from .files import reason

EXTENSIONS = Image.registered_extensions()
# EPS starts another program to draw itself; the others can be told apart but not drawn.
FORMATS = tuple(sorted(set(Image.OPEN) - {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}))


def load_folder(folder: Path, size: int | None = None) -> Dataset:
    """The pictures in a folder and in its subfolders, by name; every tenth, at least one, is for testing.

    With `size` the middle square of each is scaled to (size, size); without, all must be of one size. RGB, unless all
    are grey. Raises DataError for fewer than two pictures, or one that is broken.
    """
    if size is not None and size < 1:
        raise DataError(f"--size must be at least 1, found {size}")
    paths = _pictures(folder)
    if len(paths) < 2:
        raise DataError(f"{folder}: expected at least two pictures (or train-images-idx3-ubyte), found {len(paths)}")
    mode = "L" if all(_open(path, lambda image: Image.getmodebase(image.mode) == "L") for path in paths) else "RGB"
    first = _open(paths[0], lambda image: _decode(image, mode, size))
    held_out = set(paths[9::10] or paths[-1:])
    train = _read([path for path in paths if path not in held_out], mode, size, first.shape)
    test = _read(sorted(held_out), mode, size, first.shape)
    return Dataset(safe_name(folder), train, test, first.shape)


def grid(
    pixels: np.ndarray, shape: tuple[int, int, int], columns: int, pad: int = 2, scale: int | None = None
) -> Image.Image:
    """Images (N, D), uint8 or floats clipped to [0, 1], in rows of `columns` on white, each pixel scale × scale.

    Unless given, `scale` brings a tile to at least 48 pixels.
    """
    height, width, channels = shape
    scale = scale or -(-48 // max(height, width))
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    tiles = pixels.reshape(-1, *shape).repeat(scale, axis=1).repeat(scale, axis=2)
    tall, wide = height * scale + pad, width * scale + pad
    canvas = np.full((-(-len(tiles) // columns) * tall + pad, columns * wide + pad, channels), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * tall + pad, i % columns * wide + pad
        canvas[top : top + height * scale, left : left + width * scale] = tile
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)


def _pictures(folder: Path) -> list[Path]:
    def is_picture(path: Path) -> bool:
        return EXTENSIONS.get(path.suffix.lower()) in FORMATS and path.name[0] != "." and path.is_file()

    return sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if is_picture(path))


def _open(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    """use(picture); whatever goes wrong in Pillow is the file's fault, and the error names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = BytesIO(path.read_bytes())  # not the file, whose read(n) lays out n bytes, whatever n is claimed
            with Image.open(content, formats=FORMATS) as image:
                if image.width * image.height > max(1 << 24, 1000 * path.stat().st_size):
                    raise DataError(f"a file this small does not hold {image.width} x {image.height} pixels")
                return use(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: expected a picture, found something that Pillow cannot identify as one") from error
    except Exception as error:  # Pillow's readers have many
        raise DataError(f"{path}: expected a whole picture, found a broken one ({reason(error)})") from error


def _decode(image: Image.Image, mode: str, size: int | None) -> np.ndarray:
    """(H, W, C), uint8."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("its pixels are floats of unknown range; store them as .npz")
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert(mode)
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _read(paths: Sequence[Path], mode: str, size: int | None, shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.empty((len(paths), *shape), np.uint8)
    for row, path in zip(pixels, tqdm(paths, desc="pictures", leave=False, disable=None), strict=True):
        picture = _open(path, lambda image: _decode(image, mode, size))
        if picture.shape != shape:
            raise DataError(f"{path}: expected {shape} as in the first picture, found {picture.shape}; give --size")
        row[:] = picture
    return pixels.reshape(len(paths), -1)
