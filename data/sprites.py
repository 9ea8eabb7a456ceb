"""Shapes on black in all combinations of five factors, after dSprites (Matthey et al. 2017)."""

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .dataset import Dataset, divided

SIDE, TILE, FINE = 28, 13, 16  # pixels of an image, of a sprite; drawn FINE times larger
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
    """Images, labelled by shape. `factors` are places in SHAPES, SIZES, ANGLES, PLACES and PLACES."""
    counts = [len(values) for values in (SHAPES, SIZES, ANGLES, PLACES, PLACES)]
    pixels, places = np.zeros((*counts, SIDE, SIDE), np.uint8), np.indices(counts).reshape(5, -1)
    for key in np.ndindex(*counts[:3]):
        sprite = draw(*key)
        for x, y in product(PLACES, PLACES):
            pixels[key][x, y, y : y + TILE, x : x + TILE] = sprite
    pixels = pixels.reshape(-1, SIDE * SIDE)
    test = np.random.default_rng(0).permutation(len(pixels)) < len(pixels) // 6
    rule = "a sixth, drawn by a fixed seed, is for testing"
    found = divided("sprites", pixels, test, (SIDE, SIDE, 1), rule, places[0])
    factors = np.concatenate([places[:, ~test], places[:, test]], axis=1)
    return found._replace(classes=CLASSES, factors=dict(zip(FACTORS, factors, strict=True)))


def draw(shape: int, scale: int, rotation: int) -> np.ndarray:
    """One sprite, drawn large and averaged down: grey at its edges.   -> (TILE, TILE), uint8"""
    cos, sin = np.cos(ANGLES[rotation]), np.sin(ANGLES[rotation])
    corners = np.array(SHAPES[shape]) @ [[cos, sin], [-sin, cos]] * SIZES[scale] + TILE / 2
    large = Image.new("L", (TILE * FINE, TILE * FINE))
    ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners * FINE], fill=255)
    return np.asarray(large.reduce(FINE))
