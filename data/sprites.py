"""Shapes on black whose factors of variation are known, drawn by Pillow: every combination of the five, once.

An ellipse, a square and a triangle, each of four sizes, turned by six angles (no two of them alike, whatever the
symmetry), at 16×16 places: 18,432 images of 28×28, in the manner of dSprites (Matthey et al. 2017).
"""

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .dataset import Dataset

SIDE, TILE, FINE = 28, 13, 16  # pixels of an image and of a sprite; sprites are drawn FINE times larger
SHAPES = (  # corners in a square of ±1, in order
    [(0.5 * np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 60, endpoint=False)],
    [(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)],
    [(0.0, -1.0), (0.75, 0.66), (-0.75, 0.66)],
)
SIZES = (3.0, 4.0, 5.0, 6.0)  # half of the largest extent, in pixels
ANGLES = np.radians([0, 15, 30, 45, 60, 75])
PLACES = range(SIDE - TILE + 1)
FACTORS = ("shape", "scale", "rotation", "x", "y")


def load(data_dir: Path | None, download: bool) -> Dataset:
    """A fixed sixth of the images, 3,072, to test and the other 15,360 to train on; labelled by their shape.

    `factors` holds, for each image of `population`, the place of its shape, scale, rotation, x and y among SHAPES,
    SIZES, ANGLES, PLACES and PLACES. Both arguments are unused.
    """
    kinds = [range(len(values)) for values in (SHAPES, SIZES, ANGLES)]
    places = np.array(list(product(*kinds, PLACES, PLACES)))
    pixels = np.zeros((len(places), SIDE, SIDE), np.uint8)
    sprites = {key: draw(*key) for key in product(*kinds)}
    for image, (*key, x, y) in zip(pixels, places.tolist(), strict=True):
        image[y : y + TILE, x : x + TILE] = sprites[tuple(key)]
    test = np.random.default_rng(0).permutation(len(places)) < len(places) // 6
    pixels, factors = pixels.reshape(len(places), -1), np.concatenate([places[~test], places[test]]).T
    return Dataset(
        "sprites",
        pixels[~test],
        pixels[test],
        (SIDE, SIDE, 1),
        "a sixth, drawn by a fixed seed, is for testing",
        labels=(places[~test, 0], places[test, 0]),
        classes=("ellipse", "square", "triangle"),
        factors=dict(zip(FACTORS, factors, strict=True)),
    )


def draw(shape: int, scale: int, rotation: int) -> np.ndarray:
    """One sprite, drawn large and averaged down: grey at its edges.   -> (TILE, TILE), uint8"""
    cos, sin = np.cos(ANGLES[rotation]), np.sin(ANGLES[rotation])
    corners = np.array(SHAPES[shape]) @ [[cos, sin], [-sin, cos]] * SIZES[scale] + TILE / 2
    large = Image.new("L", (TILE * FINE, TILE * FINE))
    ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners * FINE], fill=255)
    return np.asarray(large.reduce(FINE))
