"""Shapes on black in every combination of five factors of variation, after dSprites (Matthey et al. 2017)."""

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .dataset import Dataset, divided

SIDE, TILE, FINE = 28, 13, 16  # pixels of an image and of a sprite; sprites are drawn FINE times larger
SHAPES = (  # corners in a square of ±1, in order
    [(0.5 * np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 60, endpoint=False)],
    [(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)],
    [(0.0, -1.0), (0.75, 0.66), (-0.75, 0.66)],
)
SIZES = (3.0, 4.0, 5.0, 6.0)  # half of the largest extent, in pixels
ANGLES = np.radians([0, 15, 30, 45, 60, 75])  # no two alike, whatever the symmetry of the shape
PLACES = range(SIDE - TILE + 1)
CLASSES = ("ellipse", "square", "triangle")
FACTORS = ("shape", "scale", "rotation", "x", "y")


def load(data_dir: Path | None, download: bool) -> Dataset:
    """A fixed sixth of the images to test, all labelled by their shape. No argument is used.

    `factors` are the places of each image's shape, scale, … in SHAPES, SIZES, ANGLES, PLACES and PLACES.
    """
    kinds = [range(len(values)) for values in (SHAPES, SIZES, ANGLES)]
    places = np.array(list(product(*kinds, PLACES, PLACES)))
    pixels = np.zeros((len(places), SIDE, SIDE), np.uint8)
    sprites = {key: draw(*key) for key in product(*kinds)}
    for image, (*key, x, y) in zip(pixels, places.tolist(), strict=True):
        image[y : y + TILE, x : x + TILE] = sprites[tuple(key)]
    test = np.random.default_rng(0).permutation(len(places)) < len(places) // 6
    pixels, rule = pixels.reshape(len(places), -1), "a sixth, drawn by a fixed seed, is for testing"
    found = divided("sprites", pixels, test, (SIDE, SIDE, 1), rule, places[:, 0])
    factors = np.concatenate([places[~test], places[test]]).T
    return found._replace(classes=CLASSES, factors=dict(zip(FACTORS, factors, strict=True)))


def draw(shape: int, scale: int, rotation: int) -> np.ndarray:
    """One sprite, drawn large and averaged down: grey at its edges.   -> (TILE, TILE), uint8"""
    cos, sin = np.cos(ANGLES[rotation]), np.sin(ANGLES[rotation])
    corners = np.array(SHAPES[shape]) @ [[cos, sin], [-sin, cos]] * SIZES[scale] + TILE / 2
    large = Image.new("L", (TILE * FINE, TILE * FINE))
    ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners * FINE], fill=255)
    return np.asarray(large.reduce(FINE))
