"""What the latents know, where it is known: equal posteriors, separate ones, and latents that are copies of factors."""

import math

import numpy as np
import pytest

from ref import information
from ref.information import (
    factor_information,
    log_aggregate_posterior,
    mutual_information,
    mutual_information_gaps,
)
from tests.tested import TESTED, compute, device, host, needs_backend, open_tested

pytestmark = needs_backend

RNG = np.random.default_rng(0)


def on_backend(f, *arrays, seed=0, backend=TESTED):
    """f(backend, *arrays, noise): host arrays go in, and host arrays come out."""
    return host(f(backend, *device(arrays), backend.noise(seed)))


def test_the_aggregate_posterior_is_the_mean_of_the_densities_however_small_they_are():
    mean, log_std, z = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 3)) - 1, RNG.normal(size=(700, 3))
    std = np.exp(log_std)
    densities = np.exp(-0.5 * ((z[:, None] - mean) / std) ** 2) / std / math.sqrt(2 * math.pi)
    expected = np.log(densities.prod(axis=2).mean(axis=1))
    np.testing.assert_allclose(compute(log_aggregate_posterior, z, mean, log_std), expected, rtol=1e-10)
    assert compute(log_aggregate_posterior, z + 1e4, mean, log_std).max() < -1e6  # where every density underflows


def test_posteriors_that_are_all_equal_know_nothing_so_the_marginal_kl_is_the_rate():
    mean, log_std = np.tile(RNG.normal(size=(1, 4)), (50, 1)), np.tile(RNG.normal(size=(1, 4)), (50, 1))
    assert on_backend(mutual_information, mean, log_std) == pytest.approx((0, 0), abs=1e-10)


def test_posteriors_that_are_far_apart_know_log_n():
    mean, log_std = 1e3 * np.arange(60.0)[:, None] * [1, -1], np.full((60, 2), -1.0)
    assert on_backend(mutual_information, mean, log_std) == pytest.approx((math.log(60), 0), abs=1e-6)


def test_the_information_of_two_posteriors_is_that_of_a_binary_gaussian_channel():
    # ±1 in noise of std 1: log 2 − E[log(1 + e^(−2y))], y ~ N(1, 1), here by quadrature
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = math.log(2) - np.sum(weights * np.logaddexp(0, -2 * (1 + nodes))) / math.sqrt(2 * math.pi)
    mean, log_std = np.repeat([[1.0], [-1.0]], 500, axis=0), np.zeros((1000, 1))
    ours, error = on_backend(mutual_information, mean, log_std)
    assert abs(ours - expected) < 4 * error < 0.03


def test_the_standard_error_is_the_spread_over_repetitions():
    mean, log_std = RNG.normal(size=(100, 2)), np.full((100, 2), -0.5)
    found = [on_backend(mutual_information, mean, log_std, seed=seed) for seed in range(40)]
    spread = np.std([information for information, _ in found])
    assert 0.5 < spread / found[0][1] < 1.3  # every image is drawn equally often, so a little less than predicted


def test_no_estimate_exceeds_its_ceiling_in_float32():
    mean = (30 * RNG.normal(size=(200, 5))).astype("float32")
    found, _ = on_backend(mutual_information, mean, np.full_like(mean, -3), backend=open_tested("float32"))
    assert math.log(200) - 1e-6 < found <= math.log(200) + 1e-9


def encodings_of(factors: np.ndarray, mixing: np.ndarray):
    """Latents that are linear in the factors, all but without noise."""
    mean = factors @ mixing
    return mean, np.full(mean.shape, -6.0)


FACTORS = np.stack(np.meshgrid(np.arange(4.0), np.arange(6.0), np.arange(5.0)), axis=-1).reshape(-1, 3)


def gaps_of(mean, log_std, *factors, seed=0) -> list[float]:
    """The gaps of the factors, in their order."""
    named = {f"{i}": np.asarray(v).astype(int) for i, v in enumerate(factors)}
    return [*mutual_information_gaps(TESTED, *device((mean, log_std, named)), TESTED.noise(seed)).values()]


def information_of(mean, log_std, factor, backend=TESTED):
    known, entropies = host(factor_information(backend, *device((mean, log_std, {"v": factor})), backend.noise(0)))
    return known[0], entropies[0]


def test_a_latent_that_copies_a_factor_has_a_gap_of_one_and_a_factor_that_two_share_none():
    mean, log_std = encodings_of(FACTORS, np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]))
    assert gaps_of(mean, log_std, *FACTORS.T) == pytest.approx([1, 0, 0], abs=1e-3)


def test_the_information_about_a_factor_is_its_entropy_in_its_latent_and_zero_in_the_others():
    mean, log_std = encodings_of(FACTORS, np.eye(3))
    known, entropy = information_of(mean, log_std, FACTORS[:, 1].astype(int))
    assert entropy == pytest.approx(math.log(6))
    np.testing.assert_allclose(known, [0, math.log(6), 0], atol=1e-6)


def test_the_gap_is_a_share_of_the_factors_entropy_and_not_of_the_log_of_its_values():
    # a factor that is 1 once in ten, copied by a latent: all of its 0.33 nats are known, of log 2 = 0.69
    factor = (np.arange(400) % 10 == 0).astype(int)
    mean = np.stack([factor, np.zeros(400)], axis=1).astype(float)
    assert gaps_of(mean, np.full((400, 2), -6.0), factor) == pytest.approx([1], abs=1e-6)


def test_the_information_of_many_images_is_that_of_their_blocks_together():
    # 1,200 images go through in blocks of 500; their latent is ±1 in noise of std 1, as in the binary channel above
    factor = np.arange(1200) % 2
    mean, log_std = (2.0 * factor - 1)[:, None], np.zeros((1200, 1))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = math.log(2) - np.sum(weights * np.logaddexp(0, -2 * (1 + nodes))) / math.sqrt(2 * math.pi)
    known, _ = information_of(mean, log_std, factor)
    assert known[0] == pytest.approx(expected, abs=0.05)


def test_the_information_about_a_factor_is_computed_in_float64_whatever_the_precision_of_the_network():
    # two means that are neighbours in float32, a quarter of their distance as std: z rounded to either would know all
    factor = np.arange(4000) % 2
    mean = (8192 + factor[:, None] / 1024).astype("float32")
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = math.log(2) - np.sum(weights * np.logaddexp(0, -4 * (2 + nodes))) / math.sqrt(2 * math.pi)
    known, _ = information_of(mean, np.full_like(mean, -12 * math.log(2)), factor, open_tested("float32"))
    assert known[0] == pytest.approx(expected, abs=0.02) and expected < math.log(2) - 0.04


def test_a_factor_that_is_constant_has_no_gap():
    mean, log_std = encodings_of(FACTORS, np.eye(3))
    named = {"constant": np.full(len(FACTORS), 3), "x": FACTORS[:, 0].astype(int)}
    found = mutual_information_gaps(TESTED, *device((mean, log_std, named)), TESTED.noise(0))
    assert [*found] == ["x"] and found["x"] == pytest.approx(1, abs=1e-3)


def test_more_images_than_draws_leave_the_information_what_it_is(monkeypatch):
    mean, log_std = encodings_of(FACTORS, np.eye(3))
    whole, _ = information_of(mean, log_std, FACTORS[:, 1].astype(int))
    monkeypatch.setattr(information, "FACTOR_DRAWS", 60)
    np.testing.assert_allclose(information_of(mean, log_std, FACTORS[:, 1].astype(int))[0], whole, atol=0.05)


def test_the_draws_are_spread_over_all_images(monkeypatch):
    # half of the images share a value, which costs log 2 to name; the others have each one of sixty, log 120
    factor = np.concatenate([np.zeros(60, int), 1 + np.arange(60)])
    mean = 100.0 * factor[:, None]
    monkeypatch.setattr(information, "FACTOR_DRAWS", 20)
    known, entropy = information_of(mean, np.zeros_like(mean), factor)
    assert known[0] == pytest.approx(0.5 * (math.log(2) + math.log(120))) == pytest.approx(entropy)


def test_the_entropy_weighs_the_values_of_a_factor_by_their_images():
    _, entropy = information_of(np.zeros((8, 1)), np.zeros((8, 1)), np.array([0] * 6 + [2] * 2))
    assert entropy == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_a_single_latent_has_no_second_best():
    mean, log_std = encodings_of(FACTORS, np.array([[1.0], [0], [0]]))
    assert gaps_of(mean, log_std, FACTORS[:, 0]) == pytest.approx([1])
