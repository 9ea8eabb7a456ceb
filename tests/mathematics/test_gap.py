"""What latents know about factors that they copy, alone or mixed."""

import math

import numpy as np
from numpy.testing import assert_allclose
from pytest import approx

from experiment.studies import measures
from experiment.studies.measures import factor_information, gaps
from tests.mathematics.test_information import binary_channel


def encodings_of(factors: np.ndarray, mixing: np.ndarray):
    """Latents that are linear in the factors, all but without noise."""
    mean = factors @ mixing
    return mean, np.full(mean.shape, -6.0)


FACTORS = np.stack(np.meshgrid(np.arange(4.0), np.arange(6.0), np.arange(5.0)), axis=-1).reshape(-1, 3)


def information_of(mean, log_std, *factors):
    """factor_information of factors that have no names."""
    return factor_information(mean, log_std, {f"{i}": np.asarray(v).astype(int) for i, v in enumerate(factors)})


def gaps_of(mean, log_std, *factors) -> list[float]:
    """The gaps of the factors, in their order."""
    return [*gaps(*information_of(mean, log_std, *factors))]


def test_a_latent_that_copies_a_factor_has_a_gap_of_one_and_a_factor_that_two_share_none():
    mean, log_std = encodings_of(FACTORS, np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]))
    assert gaps_of(mean, log_std, *FACTORS.T) == approx([1, 0, 0], abs=1e-3)


def test_the_information_about_a_factor_is_its_entropy_in_its_latent_and_zero_in_the_others():
    mean, log_std = encodings_of(FACTORS, np.eye(3))
    known, entropies = information_of(mean, log_std, FACTORS[:, 1])
    assert entropies == approx([math.log(6)])
    assert_allclose(known, [[0, math.log(6), 0]], atol=1e-6)


def test_the_gap_is_a_share_of_the_factors_entropy_and_not_of_the_log_of_its_values():
    # 1 once in ten: all of its 0.33 nats are known, of log 2 = 0.69
    factor = (np.arange(400) % 10 == 0).astype(int)
    mean = np.stack([factor, np.zeros(400)], axis=1).astype(float)
    assert gaps_of(mean, np.full((400, 2), -6.0), factor) == approx([1], abs=1e-6)


def test_the_information_of_many_images_is_that_of_their_blocks_together():
    # 1,200 images go through in blocks of 500; their latent is ±1 in noise of std 1
    factor = np.arange(1200) % 2
    known, _ = information_of((2.0 * factor - 1)[:, None], np.zeros((1200, 1)), factor)
    assert known[0] == approx(binary_channel(1), abs=0.05)


def test_the_information_about_a_factor_is_computed_in_float64():
    # neighbours in float32, their std a quarter of the distance: z rounded to either would know all
    factor = np.arange(4000) % 2
    mean = (8192 + factor[:, None] / 1024).astype("float32")
    known, _ = information_of(mean, np.full_like(mean, -12 * math.log(2)), factor)
    assert known[0] == approx(binary_channel(2), abs=0.02) and binary_channel(2) < math.log(2) - 0.04


def test_more_images_than_draws_leave_the_information_what_it_is(monkeypatch):
    mean, log_std = encodings_of(FACTORS, np.eye(3))
    whole, _ = information_of(mean, log_std, FACTORS[:, 1])
    monkeypatch.setattr(measures, "DRAWS", 60)
    assert_allclose(information_of(mean, log_std, FACTORS[:, 1])[0], whole, atol=0.05)


def test_the_draws_are_spread_over_all_images(monkeypatch):
    # half of the images share a value, which costs log 2 to name; the others have one of sixty, log 120
    factor = np.concatenate([np.zeros(60, int), 1 + np.arange(60)])
    mean = 100.0 * factor[:, None]
    monkeypatch.setattr(measures, "DRAWS", 20)
    known, entropy = information_of(mean, np.zeros_like(mean), factor)
    assert [*known[0], *entropy] == approx([0.5 * (math.log(2) + math.log(120))] * 2)


def test_the_entropy_weighs_the_values_of_a_factor_by_their_images():
    _, entropy = information_of(np.zeros((8, 1)), np.zeros((8, 1)), np.array([0] * 6 + [2] * 2))
    assert entropy == approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_a_single_latent_has_no_second_best():
    mean, log_std = encodings_of(FACTORS, np.array([[1.0], [0], [0]]))
    assert gaps_of(mean, log_std, FACTORS[:, 0]) == approx([1])
