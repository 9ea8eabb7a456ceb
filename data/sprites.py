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


def load(data_dir: Path, download: bool) -> Dataset:
    """A fixed sixth of the images, 3,072, to test and the other 15,360 to train on. Both arguments are unused."""
    chosen = list(product(range(len(SHAPES)), range(len(SIZES)), range(len(ANGLES)), PLACES, PLACES))
    pixels = np.zeros((len(chosen), SIDE, SIDE), np.uint8)
    sprites = {key: draw(*key) for key in product(range(len(SHAPES)), range(len(SIZES)), range(len(ANGLES)))}
    for image, (*key, x, y) in zip(pixels, chosen, strict=True):
        image[y : y + TILE, x : x + TILE] = sprites[tuple(key)]
    held_out = np.random.default_rng(0).permutation(len(chosen)) < len(chosen) // 6
    pixels, factors = pixels.reshape(len(chosen), -1), dict(zip(FACTORS, np.array(chosen)[held_out].T, strict=True))
    return Dataset("sprites", pixels[~held_out], pixels[held_out], (SIDE, SIDE, 1), factors)


def draw(shape: int, scale: int, rotation: int) -> np.ndarray:
    """One sprite, drawn large and averaged down: grey at its edges.   -> (TILE, TILE), uint8"""
    cos, sin = np.cos(ANGLES[rotation]), np.sin(ANGLES[rotation])
    corners = np.array(SHAPES[shape]) @ [[cos, sin], [-sin, cos]] * SIZES[scale] + TILE / 2
    large = Image.new("L", (TILE * FINE, TILE * FINE))
    ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners * FINE], fill=255)
    return np.asarray(large.reduce(FINE))
