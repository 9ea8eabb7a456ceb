"""The sprites: every combination of their factors once, and drawn as the factors say."""

from itertools import product
from pathlib import Path

import numpy as np

from data import load
from data.sprites import ANGLES, FACTORS, PLACES, SHAPES, SIZES, TILE, draw

SPRITES = load("sprites")
IMAGES = SPRITES.population


def test_every_combination_of_the_factors_is_one_image_and_no_two_are_alike():
    assert len(IMAGES) == 3 * 4 * 6 * 16 * 16 == len({image.tobytes() for image in IMAGES}) and len(PLACES) == 16
    assert SPRITES.train.shape == (15_360, 28 * 28) and SPRITES.shape == (28, 28, 1)
    combinations = np.stack([SPRITES.factors[name] for name in FACTORS])
    assert combinations.max(axis=1).tolist() == [2, 3, 5, 15, 15] and combinations.min() == 0
    assert len(np.unique(combinations, axis=1).T) == 18_432 == combinations.shape[1]


def test_the_factors_of_an_image_draw_it_and_its_shape_is_its_label():
    assert list(SPRITES.factors) == list(FACTORS)
    assert (IMAGES[:15_360] == SPRITES.train).all() and (IMAGES[15_360:] == SPRITES.test).all()
    for i in range(0, 18_432, 300):
        shape, scale, rotation, x, y = (int(SPRITES.factors[name][i]) for name in FACTORS)
        image = IMAGES[i].reshape(28, 28).copy()
        assert (image[y : y + TILE, x : x + TILE] == draw(shape, scale, rotation)).all()
        image[y : y + TILE, x : x + TILE] = 0
        assert not image.any()
    assert SPRITES.classes == ("ellipse", "square", "triangle")
    assert (np.concatenate(SPRITES.labels) == SPRITES.factors["shape"]).all() and len(SPRITES.labels[0]) == 15_360


def test_a_sprite_lies_whole_in_its_tile_and_grows_with_its_scale():
    for shape, rotation in product(range(len(SHAPES)), range(len(ANGLES))):
        areas = [draw(shape, scale, rotation).astype(float).sum() / 255 for scale in range(len(SIZES))]
        ratio = np.diff(np.sqrt(areas)) / np.diff(SIZES)
        np.testing.assert_allclose(ratio, np.sqrt(areas[0]) / SIZES[0], rtol=0.06)


def test_the_images_are_fixed_and_factors_all_but_independent_in_the_test_set():
    assert (load("sprites", Path("nowhere")).train == SPRITES.train).all()
    table = np.corrcoef([SPRITES.factors[name][15_360:] for name in FACTORS])
    assert np.abs(table - np.eye(5)).max() < 0.06
